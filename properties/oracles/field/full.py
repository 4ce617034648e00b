"""Full finetuning: W' and b' are trained tensors that start as W and b. No options."""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, exactly

SOURCE = "documentation"
TRAINS = ("W", "b")
LAWS = {"affine_in": ("W", "b"), "inputs": {"W": 1}, "outputs": {"W": 0, "b": 0}}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Whatever the base was."""
    return p["W"], p.get("b")


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The base."""
    laws = [exactly("W' = W", p["W"], W)]
    return laws if b is None else [*laws, exactly("b' = b", p["b"], b)]
