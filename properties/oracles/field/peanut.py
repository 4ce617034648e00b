"""PEANuT, arXiv:2410.01870 equation 4: W' = W + s f(W), a network of W's rows; affine in x.

f(W)^T = B(h), h = act(A W^T), then `depth` encoders h -> act(E_i h), and as many decoders h -> act(D_i h) +
what the encoder of the same depth was given. A (r, d_out), B (d_out, r), E_i and D_i (r, r). options: s,
depth, init; act is ReLU.

Looked up: peft's documentation of PEANuT has A, B and the residual pairs between, and no formula.
"""

from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, is_zero, kaiming

SOURCE = "code"
TRAINS = ("A", "B", *(f"{kind}{i}" for kind in "ED" for i in range(8)))
LAWS = {"affine_in": ("B",)}


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """h (r, d_in)."""
    h = (p["A"] @ W).relu()
    given = []
    for i in range(options["depth"]):
        given.append(h)
        h = (p[f"E{i}"] @ h).relu()
    for i in range(options["depth"]):
        h = (p[f"D{i}"] @ h).relu() + given.pop()
    return W + options["s"] * p["B"] @ h, b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """B is zero, the others are kaiming-uniform."""
    if not options["init"]:
        return []
    others = [(n, t) for n, t in p.items() if n != "B"]
    laws = [law for n, t in others for law in kaiming(n, t, tuple(t.shape), t.shape[1])]
    return [*laws, is_zero("B", p["B"], (len(W), options["r"]))]
