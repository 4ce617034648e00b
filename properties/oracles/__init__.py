"""Independent float64 references: what each variant computes, straight from its paper, importing nothing
tested.

All tensors are float64 and may share leading batch dimensions in ``forward``. Shapes, names of parameters and
options are those of the library's adapters; ``p`` holds the tensors now, ``p0`` the same as they stood right
after init.
"""

from typing import NamedTuple, Protocol

from torch import Tensor

from . import antipasto, delora, dora, eva, full, hra, ia3, ia3_ff, lora, pissa
from .laws import Law, Options, Tensors

__all__ = ["ORACLES", "Law", "Oracle"]


class Forward(Protocol):
    """x (..., T, d_in), W (..., d_out, d_in), b (..., d_out) or None -> (..., T, d_out).

    e (..., T, d_out) is an error of the base's own output x W^T + b: zero, or what an error model puts there.
    """

    def __call__(
        self, x: Tensor, W: Tensor, b: Tensor | None, e: Tensor, p: Tensors, p0: Tensors, options: Options
    ) -> Tensor: ...


class InitLaws(Protocol):
    """What must hold right after init; no leading dimensions.

    inputs (tokens, d_in) are the calibration inputs.
    """

    def __call__(
        self, W: Tensor, b: Tensor | None, p: Tensors, options: Options, inputs: Tensor | None
    ) -> list[Law]: ...


class Oracle(NamedTuple):
    """The reference for one variant. trained: the tensors that its paper trains; None where nobody says."""

    forward: Forward
    init_laws: InitLaws
    trained: frozenset[str] | None = None


# What the papers train; the library's own declarations are not asked. antipasto: rot where the basis
# turns; full: b where there is one.
TRAINED = {
    "lora": {"A", "B"},
    "pissa": {"A", "B"},
    "dora": {"A", "B", "m"},
    "delora": {"A", "B", "lambda_"},
    "ia3": {"offset"},
    "ia3_ff": {"offset"},
    "hra": {"U"},
    "eva": {"A", "B"},
    "antipasto": {"delta_s", "rot"},
    "full": {"W", "b"},
}

ORACLES: dict[str, Oracle] = {
    name: Oracle(module.forward, module.init_laws, frozenset(TRAINED[name]))
    for name, module in {
        "lora": lora,
        "pissa": pissa,
        "dora": dora,
        "delora": delora,
        "ia3": ia3,
        "ia3_ff": ia3_ff,
        "hra": hra,
        "eva": eva,
        "full": full,
        "antipasto": antipasto,
    }.items()
}
