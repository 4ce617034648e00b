"""Norms over all that a dtype holds: no square of a small number is lost, none of a large one overflows."""

from collections.abc import Iterable
from functools import reduce
from itertools import repeat
from typing import Literal

import torch
from torch import Tensor

from lora_lite.errors import ConfigError

Axis = Literal["rows", "columns"]

# Numbers that are looked at together: in float64 they fit into a core's cache.
AT_ONCE = 2**16
# Rows where each block costs a launch, or is unrolled into a graph.
FEW_BLOCKS = 256


def rows_at_once(W: Tensor) -> int:
    """How many rows of a matrix make a block: of AT_ONCE numbers on a CPU, one at least; elsewhere, and under
    torch.compile, FEW_BLOCKS.
    """
    if torch.compiler.is_compiling() or W.device.type != "cpu":
        return FEW_BLOCKS
    return max(1, AT_ONCE // W.shape[1])


def norms_of(W: Tensor, axis: Axis) -> Tensor:
    """(rows,) or (columns,) in float64, a block of rows at a time."""
    blocks: Iterable[Tensor] = torch.split(W, rows_at_once(W))
    if W.dtype != torch.float64:
        # Whatever number a narrower dtype holds, its square is one of float64.
        return joined((measured(rows.double(), axis) for rows in blocks), axis)
    # Scaled to its largest entry before anything is squared. (Not vector_norm's own maximum, which takes
    # thirty times as long on a CPU.)
    along = 1 if axis == "rows" else 0
    scale = _nonzero(W.abs().amax(dim=along, keepdim=True))
    scales = torch.split(scale, rows_at_once(W)) if axis == "rows" else repeat(scale)
    scaled = (rows / own for rows, own in zip(blocks, scales, strict=False))
    return joined((measured(rows, axis) for rows in scaled), axis) * scale.squeeze(along)


def measured(rows: Tensor, axis: Axis | None) -> Tensor:
    """Of a block in float64: the norms of its rows, the squares of its columns' norms, or its own norm."""
    if axis == "rows":
        return torch.linalg.vector_norm(rows, dim=1)  # type: ignore[no-any-return]
    if axis == "columns":
        # As a product: a sum along the first dimension takes ten times as long.
        return rows.square().mT @ rows.new_ones(len(rows))
    flat = rows.reshape(-1)
    return (flat @ flat).sqrt().view(1)


def joined(blocks: Iterable[Tensor], axis: Axis | None) -> Tensor:
    """What measured() has found in each block, of all of them."""
    if axis == "columns":
        return reduce(torch.add, blocks).sqrt()
    found = list(blocks)
    return torch.cat(found) if len(found) > 1 else found[0]


def row_norms(W: Tensor) -> Tensor:
    """norms_of(W, "rows")."""
    return norms_of(W, "rows")


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
    tiny = torch.finfo(dtype).tiny
    if norms.min() >= tiny:
        return
    # float16 is below its smallest normal number with ordinary weights, as its outputs are.
    least = 0.0 if dtype == torch.float16 else tiny
    if lost := int(((norms != 0) & ((norms.to(dtype) == 0) | (norms < least))).sum()):
        raise ConfigError(
            f"{lost} of {len(norms)} {what} of W have norms below what {dtype} holds, down to"
            f" {norms[norms != 0].min():.3g}. Choose a wider adapter dtype, scale the layer, or leave it out"
            " with exclude_names."
        )
