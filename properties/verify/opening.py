"""The model of a transformers folder: in which class, and what the folder lacks of it."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from properties.verify.files import File
from properties.verify.report import CannotJudgeError

# By the task_type of a peft config.
HEADS = {
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "FEATURE_EXTRACTION": "AutoModel",
}


@dataclass
class Opened:
    """A model in eval mode and the dtype that it is stored in.

    kind     its class and what told of it, where that is not the folder's own; "" where it is
    missing  the parameters that the folder lacks: they were drawn anew
    others   classes for --class that have the layers of the adapter's file, where this one has not
    """

    model: nn.Module
    missing: list[str] = field(default_factory=list)
    kind: str = ""
    others: list[str] = field(default_factory=list)


def transformers_of(path: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise CannotJudgeError(
            f"{path}: a folder of transformers, which is not installed: pip install transformers."
        ) from error
    return transformers


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bars, nor warnings of what this command tells itself."""
    import warnings

    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def open_model(path: str, kind: str | None, file: File | None = None) -> Opened:
    """The model of a folder. kind: the transformers class; None for that of the adapter's file where it tells
    of one, or else the folder's own.

    Raises CannotJudgeError where transformers cannot load it, or more than one class would fit.
    """
    transformers = transformers_of(path)
    if not Path(path, "config.json").is_file():
        raise CannotJudgeError(f"{path}: no config.json there, wanted a folder of transformers.")
    try:
        with quietly():
            config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
            own = (getattr(config, "architectures", None) or ["AutoModel"])[0]
            own = own if hasattr(transformers, own) else "AutoModel"
            told, why = (kind, "") if kind else _told_by_config(transformers, file)
            opened = _loaded(path, transformers, told or own, config, file)
            if kind is None and file is not None and not _fits(opened.model, file):
                found = _classes_of(transformers, config, file)
                opened.others = [name for _, name in found.values()]
                if found and (file.base or file.heads.keys() - dict(opened.model.named_modules()).keys()):
                    why = "the names in its file say"
                    opened = _loaded(path, transformers, _best(found, file), config, file)
    except CannotJudgeError:
        raise
    # Whatever reading a folder of somebody else's ends in.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise CannotJudgeError(
            f"{path}: transformers cannot load it: {type(error).__name__}: {first}"
        ) from error
    name = type(opened.model).__name__
    opened.kind = f"{name}, as {why}" if why and name != own else ""
    return opened


def _loaded(path: str, transformers: Any, name: str, config: Any, file: File | None) -> Opened:
    if not hasattr(transformers, name):
        raise CannotJudgeError(f"--class: transformers has no {name}.")
    kind, config = getattr(transformers, name), copy.deepcopy(config)
    for _ in range(2):
        # What the folder lacks is drawn: alike in every run.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, told = kind.from_pretrained(
                path, config=config, local_files_only=True, dtype="auto", output_loading_info=True
            )
        missing = sorted(told["missing_keys"])
        if (labels := _labels(model, missing, file)) is None:
            break
        config.num_labels = labels
    return Opened(model.eval(), missing)


def _labels(model: Any, missing: Iterable[str], file: File | None) -> int | None:
    """How many the file's own head has, where the model's is drawn anew for another number."""
    for name, shape in ({} if file is None else file.heads).items():
        if f"{name}.weight" in missing:
            drawn = tuple(model.get_parameter(f"{name}.weight").shape)
            if drawn[0] == model.config.num_labels != shape[0] and drawn[1:] == shape[1:]:
                return shape[0]
    return None


def _told_by_config(transformers: Any, file: File | None) -> tuple[str, str]:
    """The class that a peft config asks for, "" where it does not."""
    config = file.config if file is not None and file.is_peft else {}
    if head := HEADS.get(str(config.get("task_type"))):
        return head, "its task_type says"
    mapping = config.get("auto_mapping")
    name = str(mapping.get("base_model_class")) if isinstance(mapping, Mapping) else ""
    return (name, "its auto_mapping says") if hasattr(transformers, name) else ("", "")


def _fits(model: nn.Module, file: File) -> bool:
    """Whether the model has every layer that the file speaks of, and what it tells of its base."""
    names = {name for name, _ in model.named_modules()}
    return names.issuperset(file.layers) and _tensors(model).issuperset(file.base)


def _tensors(model: nn.Module) -> set[str]:
    found = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return found | {name for name, _ in model.named_buffers(remove_duplicate=False)}


def _best(found: dict[str, tuple[int, str]], file: File) -> str:
    """The class that the file was trained in: of what else they have it has the least, nothing but what the
    adapter replaces.

    Raises CannotJudgeError where the file tells nothing of its base, and there are several.
    """
    least = min(more for more, _ in found.values())
    best = {name: kind for name, (more, kind) in found.items() if more == least or not file.base}
    if len(best) > 1:
        options = " or ".join(f"--class {kind}" for kind in best.values())
        raise CannotJudgeError(
            f"{file.path}: its names are those of {' and of '.join(best)}, and nothing in it tells them"
            f" apart: give the one that it was trained in, {options}."
        )
    return next(iter(best.values()))


def _classes_of(transformers: Any, config: Any, file: File) -> dict[str, tuple[int, str]]:
    """The classes that have all that the file speaks of: how many tensors more, and the auto class."""
    whole = {f"{head}.{own}" for head in file.heads for own in ("weight", "bias")}
    found: dict[str, tuple[int, str]] = {}
    for name, labels in product(HEADS.values(), {shape[0] for shape in file.heads.values()} or {2}):
        config = copy.deepcopy(config)
        config.num_labels = labels
        try:
            with torch.device("meta"):
                model = getattr(transformers, name).from_config(config)
        # Of most kinds of models there is no such class.
        except (ValueError, KeyError, AttributeError, TypeError, RuntimeError):
            continue
        shapes = {n: tuple(p.shape) for n, p in model.named_parameters(remove_duplicate=False)}
        alike = all(shapes.get(f"{head}.weight") == shape for head, shape in file.heads.items())
        if alike and _fits(model, file):
            found.setdefault(type(model).__name__, (len(_tensors(model) - whole - {*file.base}), name))
    return found
