"""LoKr, arXiv:2309.14859 section 3.2: W' = W + s W1 ⊗ W2, each factor whole or a product A B of rank r.

Block (i, j) of the update is W1[i, j] W2. options: r, alpha, rs, init: "w2" (LyCORIS: the second factor is
zero), True (peft: the first), "scalar" (c, in front, is zero and no factor) or False (no factor); axis of m;
bare: s is 1 where both factors are whole, as in LyCORIS.

Looked up: LyCORIS's documentation has W1 ⊗ (A2 B2), and W1 as a product where it is decomposed too.
"""

from typing import Any

from torch import Tensor

from properties.oracles.laws import Law, Laws, Options, Tensors, decomposed, is_zero, kaiming, scale

SOURCE = "paper"
TRAINS = ("W1", "A1", "B1", "W2", "A2", "B2", "c", "m")


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """Written out block by block; m, where there is one, is a magnitude as in DoRA."""
    W1 = p["W1"] if "W1" in p else p["A1"] @ p["B1"]
    W2 = p["W2"] if "W2" in p else p["A2"] @ p["B2"]
    whole = options.get("bare", False) and "W1" in p and "W2" in p
    s = scale({**options, "alpha": options["r"]}) if whole else scale(options)
    update = (W1[:, None, :, None] * W2[None, :, None, :]).reshape(W.shape)
    V = W + s * p["c"] * update if "c" in p else W + s * update
    return (decomposed(V, p["m"], options["axis"]) if "m" in p else V), b


def laws(p: Tensors, options: Options) -> Laws:
    """With a magnitude, that of its norm; without, those of the update."""
    if "m" in p:
        return {"norms_are": {"rows" if options["axis"] == -1 else "columns": "m"}}
    return {"linear_in": ("W1", "A1", "B1", "W2", "A2", "B2", "c"), "apart_from_the_base": True}


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """The last tensor of the factor that is zero is zero, and all others are kaiming-uniform."""
    zero: dict[Any, set[str]] = {"w2": {"W2", "B2"}, True: {"W1", "A1"}, False: set(), "scalar": {"c"}}
    laws = []
    for name, tensor in p.items():
        shape = tuple(tensor.shape)
        if name in zero[options["init"]]:
            laws.append(is_zero(name, tensor, shape))
        elif name in ("W1", "A1", "B1", "W2", "A2", "B2"):
            laws += kaiming(name, tensor, shape, shape[1])
    return laws
