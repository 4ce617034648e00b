"""The base: a transformers folder, the text that it reads, and what it gives."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from properties.verify.files import File
from properties.verify.opening import open_model, quietly
from properties.verify.report import CannotJudgeError

TEXT = (
    "The ferry to the island leaves at half past seven, except on Sundays.",
    "Water boils at a lower temperature on a mountain than at the sea.",
    "def mean(values): return sum(values) / len(values)",
)
# Of the caller's text: lines and tokens that are read, at most. Each runs once for every adapted layer.
LINES, TOKENS = 16, 128
RANDOM_TOKENS = 24


@dataclass
class Base:
    """A model in eval mode, the batches that it is run on, and what it was by itself.

    inputs   what the batches are made of, as the report tells it
    kind     its class and what told of it, where that is not its folder's own
    others   classes that have the adapter's layers, where this one has not
    weights  its parameters by name: the same tensors wherever an adapter's wrappers put them
    outputs  what it gives on each batch without an adapter
    """

    model: nn.Module
    batches: list[dict[str, Tensor]]
    inputs: str
    path: str = ""
    notes: list[str] = field(default_factory=list)
    kind: str = ""
    others: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = dict(self.model.named_parameters())
        self.modules = {name for name, _ in self.model.named_modules()}
        self.leaves = {name for name, module in self.model.named_modules() if not list(module.children())}
        self.outputs = outputs(self.model, self.batches)
        if not all(bool(output.isfinite().all()) for output in self.outputs):
            raise CannotJudgeError(f"{self.path}: the base by itself gives NaN or Inf on the text.")


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> list[Tensor]:
    """What the model gives on each batch, in one row: its logits, or all its floating-point outputs."""
    rows = []
    for batch in batches:
        given: Any = model(**batch)
        logits = given if isinstance(given, Tensor) else getattr(given, "logits", None)
        told = [logits] if logits is not None else list(given.to_tuple())
        told = [t for t in told if isinstance(t, Tensor) and t.is_floating_point()]
        rows.append(torch.cat([tensor.double().flatten() for tensor in told]))
    return rows


def change(now: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """‖now − before‖ / ‖before‖ over all batches."""
    size = math.hypot(*(float(row.norm()) for row in before))
    off = math.hypot(*(float((a - b).norm()) for a, b in zip(now, before, strict=True)))
    return off / size if size else math.copysign(math.inf, off) if off else 0.0


def open_base(
    path: str, *, kind: str | None = None, file: File | None = None, text: str | None = None
) -> Base:
    """The base of a folder, with its batches, for an adapter. text: a file to read; None for sentences of our
    own.
    """
    lines = list(TEXT) if text is None else lines_of(text)
    opened = open_model(path, kind, file)
    missing, model = opened.missing, opened.model
    notes = [f"{path} holds no {', '.join(missing[:3])}: drawn anew"] if missing else []
    if notes and file is not None and {name.rpartition(".")[0] for name in missing} <= file.heads.keys():
        notes[0] += ", and the adapter brings its own; what it changes is measured against the drawn one"
    batches, inputs = batches_of(path, model, lines, asked=text is not None)
    own = "sentences of our own" if text is None else f"lines of {text}"
    return Base(model, batches, inputs.format(own), path, notes, opened.kind, opened.others)


def lines_of(path: str) -> list[str]:
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotJudgeError(f"--text: {path} cannot be read: {error}") from error
    lines = [line for line in content.splitlines() if line.strip()]
    if not lines:
        raise CannotJudgeError(f"--text: {path} holds no text, wanted at least a line.")
    return lines[:LINES]


def batches_of(
    path: str, model: Any, lines: Sequence[str], *, asked: bool = False
) -> tuple[list[dict[str, Tensor]], str]:
    """A batch a line, so that nothing is padded; random tokens where the folder has no tokenizer, and the
    caller has not asked for these very lines.
    """
    if model.main_input_name != "input_ids":
        raise CannotJudgeError(
            f"{path}: the model takes {model.main_input_name}, wanted one that reads text."
        )
    tokenizer = _tokenizer(path)
    if tokenizer is None and asked:
        raise CannotJudgeError(
            f"--text: {path} has no tokenizer to read it with. Put one there, with"
            " tokenizer.save_pretrained, or leave --text out for random tokens."
        )
    if tokenizer is None:
        size = model.config.get_text_config().vocab_size
        generator = torch.Generator().manual_seed(0)
        rows = [torch.randint(0, size, (1, RANDOM_TOKENS), generator=generator) for _ in lines]
        told = f"{len(rows)} rows of {RANDOM_TOKENS} random tokens, as the folder has no tokenizer"
    else:
        given = [tokenizer(line, truncation=True, max_length=TOKENS)["input_ids"] for line in lines]
        rows = [torch.tensor([row]) for row in given if row]
        told = f"{len(rows)} {{}}, {sum(row.numel() for row in rows)} tokens"
    if not rows:
        raise CannotJudgeError("--text: the tokenizer makes no token of it.")
    batches = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows]
    if model.config.is_encoder_decoder:
        batches = [{**batch, "decoder_input_ids": batch["input_ids"]} for batch in batches]
    return batches, told


def _tokenizer(path: str) -> Any:
    from transformers import AutoTokenizer

    if not any(Path(path, name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        return None
    try:
        with quietly():
            return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise CannotJudgeError(f"{path}: its tokenizer cannot be loaded: {error}") from error
