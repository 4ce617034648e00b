"""DEFT, and PaRa: W' = W - L M^T W + s L R, a subspace of the outputs is taken out and written anew.

P (d_out, r). options: method "qr": L = M = Q of P = Q (upper triangle); "relu": L = P and M = relu(P); s:
alpha / r, or 1 without alpha; para: without the second term; init.

Looked up: peft's documentation of DEFT has this formula, both methods, and the shapes of P and R.
"""

import torch
from torch import Tensor

from properties.oracles.laws import Law, Options, Tensors, normal

SOURCE = "documentation"
TRAINS = ("P", "R")
LAWS = {"affine_in": ("R",), "inputs": {"R": 1}, "rank": 1}


def factors(P: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """L and M."""
    if method == "qr":
        Q, _ = torch.linalg.qr(P)
        return Q, Q
    return P, P.relu()


def strength(options: Options, r: int) -> float:
    """s."""
    return options["alpha"] / r if options["alpha"] else 1.0


def adapted(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> tuple[Tensor, Tensor | None]:
    """The bias is left alone."""
    L, M = factors(p["P"], options["method"])
    W = W - L @ M.mT @ W
    return (W + strength(options, L.shape[1]) * L @ p["R"] if "R" in p else W), b


def init_laws(W: Tensor, b: Tensor | None, p: Tensors, options: Options) -> list[Law]:
    """R writes back what was taken out."""
    P = p["P"]
    laws = normal("P", P, (len(W), min(options["r"], len(W))), 0.02)
    if "R" in p and options["init"]:
        _, M = factors(P, options["method"])
        size = M.abs().sum(0).amax() * W.abs().amax()
        laws.append(Law("s R = M^T W", strength(options, P.shape[1]) * p["R"], M.mT @ W, size))
    return laws
