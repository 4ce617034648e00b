"""BitFit, arXiv:2106.10199 section 3, and BEFT, arXiv:2509.15974: y' = y + v, the bias alone learns.

options: init.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, normal

SOURCE = "paper"
TRAINS = ("v",)
LAWS = {"linear_in": ("v",), "inputs": {}, "outputs": {"v": 0}, "apart_from_the_base": True}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """A layer without bias gets one."""
    return W, p["v"] if b is None else b + p["v"]


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """Zero."""
    return [is_zero("v", p["v"], (len(W),))] if options["init"] else normal("v", p["v"], (len(W),), 1.0)
