"""What a library has to offer in order to be judged, and what of a recipe it has to look at."""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from strategies import DTYPES


class Case(Protocol):
    """What a property needs to know of a recipe in order to attach."""

    @property
    def variant(self) -> str: ...
    @property
    def options(self) -> tuple[tuple[str, Any], ...]: ...
    def calibration(self) -> Any: ...


class Subject(Protocol):
    """Attach from a drawn case, look at the tensors, save, load, merge, detach.

    refusal: what it raises where it refuses.
    """

    refusal: type[Exception]

    def attach(self, model: nn.Module, case: Case, **common: Any) -> None:
        """Adapt all linear layers of `model`, or those that the common config fields in `common` select."""

    def tensors(self, model: nn.Module) -> dict[str, dict[str, Tensor]]:
        """Live tensors by target and name; the trainable ones are nn.Parameters."""

    def first_gradients(self, model: nn.Module) -> dict[str, dict[str, str]]:
        """What each trainable tensor's first gradient is declared to be, "zero" or "nonzero"."""

    def constant_inits(self, model: nn.Module) -> dict[str, set[str]]:
        """The trainable tensors that start as a constant of the variant's own choice, by target: a gate, a
        zero B.
        """

    def identity(self, case: Case) -> str:
        """Whether a fresh adapter of this config is an identity "exact"ly or to "rounding"."""

    def continuous(self, case: Case) -> bool:
        """Whether a small first step from init is declared a small change of the output."""

    def laws(self, case: Case) -> Mapping[str, Any]:
        """What its method declares of its formula, see judging/laws.py."""

    def owner(self, case: Case) -> type:
        """The class whose methods its laws may name."""

    def save(self, model: nn.Module, path: PathLike[str]) -> None: ...
    def load(self, model: nn.Module, path: PathLike[str], **options: Any) -> None: ...
    def merge(self, model: nn.Module) -> None: ...
    def detach(self, model: nn.Module) -> None: ...


def adapter_dtype(case: Case) -> torch.dtype:
    """The dtype that the case asks for the adapter; float32 where it asks for none."""
    return DTYPES[dict(case.options).get("dtype", "float32")]
