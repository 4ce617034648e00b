"""Recipes of a small model and of the data that its adapter is calibrated with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from strategies.options import Options, own_options, ranks
from strategies.tensors import gaussian

D = torch.float64


class Chain(nn.Module):
    """Three linear layers with dropout between; `gates` scales the second one's input, so that each layer
    sees its own.
    """

    def __init__(self, width: int, keyword: bool, seed: int) -> None:
        super().__init__()
        self.keyword = keyword
        self.first, self.second, self.third = (nn.Linear(width, width, dtype=D) for _ in range(3))
        self.drop = nn.Dropout(0.5)
        self.trained_in: set[tuple[bool, bool]] = set()
        for name, parameter in self.named_parameters():
            parameter.data.copy_(gaussian(seed, name, tuple(parameter.shape), D) * width**-0.5)

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        self.trained_in.add((self.training or self.drop.training, torch.is_grad_enabled()))
        h = torch.sin(self.first(input=x) if self.keyword else self.first(x))
        h = h if gates is None else h * gates
        h = self.drop(h)
        y = self.second(input=h) if self.keyword else self.second(h)
        z: Tensor = self.third(y * y)
        return z


@dataclass(frozen=True)
class Calibrated:
    """A Chain and its calibration data: batches of these many tokens, whose mean is `offset` away from
    zero.
    """

    variant: str
    options: Options
    width: int
    batches: tuple[int, ...]
    offset: float
    keyword: bool
    form: str
    seed: int

    @cached_property
    def option(self) -> dict[str, Any]:
        """The options by name."""
        return dict(self.options)

    def build(self) -> Chain:
        return Chain(self.width, self.keyword, self.seed)

    def tokens(self) -> tuple[Tensor, Tensor]:
        """All inputs and gates (tokens, width); the variances halve from one direction to the next."""
        shape = (sum(self.batches), self.width)
        directions, _ = torch.linalg.qr(gaussian(self.seed, "directions", (self.width, self.width), D))
        x = gaussian(self.seed, "tokens", shape, D) * 0.5 ** torch.arange(self.width)
        # Later tokens are larger: whoever forgets some of them, or weighs batches alike, gets something else.
        x = x * torch.linspace(0.3, 1.5, shape[0], dtype=D)[:, None]
        return x @ directions + self.offset, gaussian(self.seed, "gates", shape, D)

    def calibration(self) -> list[Any]:
        """The tokens in their batches, in the form that the recipe says."""
        x, gates = (torch.split(t, list(self.batches)) for t in self.tokens())
        forms: dict[str, Callable[[Tensor, Tensor], Any]] = {
            "tensor": lambda x, g: x[None],
            "tuple": lambda x, g: (x, g),
            "dict": lambda x, g: {"gates": g, "x": x},
        }
        return [forms[self.form](*pair) for pair in zip(x, gates, strict=True)]

    def inputs(self) -> dict[str, Tensor]:
        """What each layer of the plain model gets over all tokens, (tokens, width), by the definition of
        Chain.
        """
        model: Any = self.build().eval().requires_grad_(False)
        x, gates = self.tokens()
        second = torch.sin(model.first(x)) * (1 if self.form == "tensor" else gates)
        return {"first": x, "second": second, "third": model.second(second).square()}


@st.composite
def calibrations(
    draw: st.DrawFn, variant: str, *, rhos: tuple[float, ...] = (1.0, 1.25, 1.6, 2.0, 3.0)
) -> Calibrated:
    """Many more tokens than the width. Shrinks towards two small batches of plain tensors."""
    width = draw(st.sampled_from((4, 6)))
    own = [
        (name, draw(st.sampled_from(rhos if name == "rho" else values)))
        for name, values in own_options(variant).items()
    ]
    drawn: Options = (*own, ("dtype", "float64"))
    r = draw(st.sampled_from([r for r in ranks(variant, width, width, drawn) if r is not None and r <= 4]))
    return Calibrated(
        variant,
        (("r", r), *drawn),
        width,
        batches=(*draw(st.lists(st.sampled_from((1, 2, 9, 24)), min_size=1, max_size=3)), 20),
        offset=draw(st.sampled_from((0.0, 3.0))),
        keyword=draw(st.booleans()),
        form=draw(st.sampled_from(("tensor", "tuple", "dict"))),
        seed=draw(st.integers(0, 2**16 - 1)),
    )
