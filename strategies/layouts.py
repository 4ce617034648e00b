"""Recipes of batches of any shape, however they lie in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from hypothesis import strategies as st
from torch import Tensor

from strategies.layers import AdaptedLayer, trained_layers

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.mT.contiguous().mT if x.ndim > 1 else x,
    "strided": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "expanded": lambda x: x[:1].expand_as(x) if x.ndim > 1 else x,
}
TOKENS: tuple[tuple[int, ...], ...] = ((), (1,), (3,), (2, 0), (0,), (1, 2, 2, 2), (2, 1, 3))


@dataclass(frozen=True)
class Laid:
    """A layer, and how its input lies in memory."""

    layer: AdaptedLayer
    layout: str

    def x(self) -> Tensor:
        return LAYOUTS[self.layout](self.layer.x())


def laid_layers(variant: str) -> st.SearchStrategy[Laid]:
    """Nought to four leading dimensions, some of them empty. Shrinks towards one vector."""
    # Where few numbers are, or all as usual, no layout shows: half of the cases have rows in an unusual one.
    usual = st.builds(Laid, trained_layers(variant, tokens=TOKENS), st.sampled_from(tuple(LAYOUTS)))
    rows = trained_layers(variant, tokens=tuple(t for t in TOKENS if prod(t) > 1), least=2)
    return usual | st.builds(Laid, rows, st.sampled_from([name for name in LAYOUTS if name != "contiguous"]))
