"""The recipe that is compiled: layers beside each other, so that one compilation has several cases."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from strategies.layers import LinearRecipe, calibration_batches
from strategies.options import Options, menu, near, ranked, simplest
from strategies.tensors import gaussian

# What a compiler may get wrong: a bias, several leading dimensions, a cast between base and adapter.
LAYERS = (
    (LinearRecipe(12, 8, bias=True), (5,)),
    (LinearRecipe(8, 12, dtype="bfloat16", seed=1), (2, 3)),
)


class Beside(nn.Module):
    """Layers that have nothing to do with each other, each with an input of its own: several cases in one
    compilation.
    """

    def __init__(self, recipes: tuple[LinearRecipe, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(recipe.build() for recipe in recipes)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        return [layer(given) for layer, given in zip(self.layers, inputs, strict=True)]


@dataclass(frozen=True)
class CompiledCase:
    """A trained adapter on each of LAYERS."""

    variant: str
    options: Options
    calibrated: bool
    trained: bool = True
    seed: int = 0

    def recipes(self) -> tuple[LinearRecipe, ...]:
        """Those of LAYERS, in shapes that the variant takes."""
        shapes = [near(self.variant, recipe.d_in, recipe.d_out, self.options) for recipe, _ in LAYERS]
        return tuple(
            recipe if shape is None else replace(recipe, d_in=shape[0], d_out=shape[1])
            for (recipe, _), shape in zip(LAYERS, shapes, strict=True)
        )

    def build(self) -> nn.Module:
        return Beside(self.recipes())

    def inputs(self) -> list[Tensor]:
        dtypes = [layer.weight.dtype for layer in self.build().layers]  # type: ignore[union-attr]
        shapes = [(*tokens, made.d_in) for made, (_, tokens) in zip(self.recipes(), LAYERS, strict=True)]
        return [
            gaussian(self.seed, f"x{i}", shape, dtype)
            for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
        ]

    def calibration(self) -> list[tuple[Tensor, ...]] | None:
        if not self.calibrated:
            return None
        given = self.inputs()
        return list(zip(*(calibration_batches(self.seed, x.shape[-1], x.dtype) for x in given), strict=True))


def compiled_cases(variant: str) -> st.SearchStrategy[CompiledCase]:
    """One case: rank 4 where there are ranks, alpha apart from it, the variant's own options at their first
    values.
    """
    options = simplest(variant)
    if "alpha" not in ll.VARIANTS[variant].config_class.unused:
        options = (*options, ("alpha", 6.0))
    some = menu(variant, options).ranks
    return st.just(
        CompiledCase(
            variant,
            ranked(options, 4 if 4 in some else some[0]),
            ll.VARIANTS[variant].needs_calibration,
        )
    )
