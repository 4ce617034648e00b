"""Norms over all that a dtype holds: no square of a small number is lost, none of a large one overflows."""

import torch
from torch import Tensor

from lora_lite.errors import ConfigError
from lora_lite.linear import at_least_float32

ROWS_AT_ONCE = 256


def row_norms(W: Tensor) -> Tensor:
    """(rows,) in float64. Every row is scaled to its largest entry before anything is squared, in its own
    dtype or float32: sums in float64 take twenty times as long on a CPU.
    """
    W = W.to(at_least_float32(W.dtype))
    scale = _nonzero(torch.linalg.vector_norm(W, torch.inf, dim=1))
    return torch.linalg.vector_norm(W / scale[:, None], dim=1).double() * scale.double()  # type: ignore[no-any-return]


def column_norms(W: Tensor) -> Tensor:
    """(columns,) in float64, a block of rows at a time: along the first dimension it takes five times as
    long.
    """
    scale = _nonzero(torch.linalg.vector_norm(W, torch.inf, dim=0).double())
    blocks = torch.split(W, ROWS_AT_ONCE)
    total: Tensor = torch.stack([(block.double() / scale).square().sum(0) for block in blocks]).sum(0)
    return total.sqrt() * scale


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 1, scale)


def keep(into: Tensor, norms: Tensor, what: str) -> None:
    """Store the norms in the adapter's dtype. Raises as refuse_lost."""
    into.copy_(norms)
    refuse_lost(norms, into.dtype, what)


def refuse_lost(norms: Tensor, dtype: torch.dtype, what: str) -> None:
    """Raise ConfigError where a norm that is not zero loses its bits in this dtype: its row or column would
    be lost with it.
    """
    # float16 is below its smallest normal number with ordinary weights, as its outputs are.
    least = 0.0 if dtype == torch.float16 else torch.finfo(dtype).tiny
    if lost := int(((norms != 0) & ((norms.to(dtype) == 0) | (norms < least))).sum()):
        raise ConfigError(
            f"{lost} of {len(norms)} {what} of W have norms below what {dtype} holds, down to"
            f" {norms[norms != 0].min():.3g}. Choose a wider adapter dtype, scale the layer, or leave it out"
            " with exclude_names."
        )
