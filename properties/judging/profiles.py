"""How much Hypothesis tries, and where it keeps what failed: one folder, or one redis server for many
machines.
"""

import os
import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

EXAMPLES = "LORA_LITE_EXAMPLES"
# What a claim with the whole share tries of a method; fewer judge nothing.
DEFAULT_EXAMPLES = 60


def register_profiles() -> None:
    """dev: the default; ci: derandomised, a gate must not be a lottery; nightly: random and long."""
    common: dict[str, Any] = {
        "deadline": None,
        # Explaining costs 18 s against 2.5 s on five failing tests, and the recipe explains itself.
        "phases": [phase for phase in Phase if phase is not Phase.explain],
        "report_multiple_bugs": False,
        # Building a transformer is part of drawing some cases.
        "suppress_health_check": [HealthCheck.too_slow],
    }
    database = example_database(os.environ.get(EXAMPLES) or ".hypothesis/examples")
    settings.register_profile("dev", max_examples=DEFAULT_EXAMPLES, database=database, **common)
    # Hypothesis refuses a database beside derandomize: what a gate runs depends on the code alone.
    settings.register_profile("ci", max_examples=DEFAULT_EXAMPLES, derandomize=True, **common)
    settings.register_profile("nightly", max_examples=1000, database=database, **common)


def begin_alone(profile: str, **more: Any) -> None:
    """For a program that judges without pytest: one thread, warnings are errors, and the profile with these
    settings.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    register_profiles()
    settings.register_profile("alone", settings.get_profile(profile), **more)
    settings.load_profile("alone")


def example_database(place: str) -> ExampleDatabase:
    """The database in a folder, or of the redis server at a URL.

    Raises pytest.UsageError for a URL of anything else.
    """
    if "://" not in place:
        return DirectoryBasedExampleDatabase(place)
    try:
        # Only wanted here.
        from hypothesis.extra.redis import RedisExampleDatabase
        from redis import Redis

        return RedisExampleDatabase(Redis.from_url(place, socket_connect_timeout=5))
    except ImportError as error:
        raise pytest.UsageError(
            f"{EXAMPLES}: {error}. Wanted a folder, or redis://host:port/0 and pip install redis."
        ) from error
    except ValueError:
        # Without the error, which quotes the URL: it may hold a password, and this goes to logs.
        raise pytest.UsageError(
            f"{EXAMPLES} is no URL of a redis server. Wanted a folder, or redis://host:port/0."
        ) from None


def check_database() -> None:
    """The database of the current profile answers. Raises pytest.UsageError where it does not."""
    server = getattr(settings().database, "redis", None)
    if server is None:
        return
    from redis import RedisError

    try:
        server.ping()
    except RedisError as error:
        raise pytest.UsageError(f"{EXAMPLES}: {error} Start the server, or unset {EXAMPLES}.") from error
