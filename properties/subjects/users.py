"""Imports a user's module that registers variants, and says in a line what is wrong with it."""

import importlib
import traceback
from pathlib import Path
from types import ModuleType


def import_variants(module: str) -> ModuleType:
    """Raises ImportError where it is not there, or raises something itself: with what, and the line in it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name or "?"):
            raise ImportError(f"--variant-module {module}: {error}") from error
        raise ImportError(f"--variant-module {module}: {error} (is its folder on PYTHONPATH?)") from error
    except Exception as error:
        own = f"{module.rpartition('.')[2]}.py"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == own]
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        raise ImportError(f"--variant-module {module}: {type(error).__name__}: {error}{where}") from error
