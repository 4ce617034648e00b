"""LLaMA-Adapter V2, arXiv:2304.15010 equation 3: y' = scale (W x + b + shift). No options."""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_constant, is_zero

SOURCE = "paper"
TRAINS = ("scale", "shift")
LAWS = {
    "affine_in": TRAINS,
    "inputs": {},
    "outputs": {"scale": 0, "shift": 0},
    "sees_the_output_alone": True,
}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Both for each output."""
    shifted = p["shift"] if b is None else b + p["shift"]
    return p["scale"][:, None] * W, p["scale"] * shifted


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Nothing changes."""
    return [is_constant("scale", p["scale"], (len(W),), 1.0), is_zero("shift", p["shift"], (len(W),))]
