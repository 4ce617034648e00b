"""Whether the base holds the adapter's change already: merged into it, and put on it once more.

Of W + c Δ, where Δ = Σ sᵢ uᵢ vᵢᵀ, the entries uᵢᵀ (W + c Δ) vᵢ are c sᵢ and what W has there, which does not
follow sᵢ. So c is the slope of the one over the other, known to what W scatters there.
"""

import copy

import torch
from torch import Tensor, nn

from properties.verify.effects import Seen
from properties.verify.engines import Engine
from properties.verify.files import File
from properties.verify.report import Report
from properties.verify.rounding import PROBES

# Of lora_lite's variants those that are a low-rank update from zero.
PLAIN = ("lora", "eva")
# By how many times its uncertainty a slope is none by chance, and what training on a base makes of it: on
# MiniLM, five ways of training left slopes of at most 3.3 uncertainties, or 0.03 where it is well known.
CERTAIN, ONCE = 6, 0.1


@torch.no_grad()
def tell_of_a_merged_base(engine: Engine, seen: dict[str, Seen], report: Report) -> None:
    told = {layer for finding in report.faults for layer in finding.layers}
    if (found := slope(engine, {name: one for name, one in seen.items() if name not in told})) is None:
        return
    times, error = found
    if times > CERTAIN * error and abs(times - 1) <= ONCE + 3 * error:
        text = f"its weights hold {times:.2g} × the adapter's change: merged into it before, and on it again"
        report.fault("the base has it already", text, [name for name, one in seen.items() if one.calls])


def slope(engine: Engine, seen: dict[str, Seen]) -> tuple[float, float] | None:
    """How many times the base's weights hold the adapter's change, and how uncertain that is; None where the
    adapter is no plain low-rank update.
    """
    found = [
        _entries(engine, name, *factors)
        for name, one in seen.items()
        if one.calls and (factors := _factors(engine.file, name, one.width)) is not None
    ]
    if not found:
        return None
    s, t, scatter = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not (square := float(s.square().sum())):
        return None
    times = float(s @ t) / square
    # Few entries may lie on a line by chance: W's own size is the least that they scatter by.
    off = torch.maximum((t - times * s).square(), scatter)
    return times, float((s.square() @ off).sqrt()) / square


def _factors(file: File, name: str, width: int) -> tuple[Tensor, Tensor] | None:
    """A (r, d_in) and B (d_out, r) of lora, None of what is none, or does not fit."""
    held = file.of(name)
    names = ("lora_A.weight", "lora_B.weight") if file.is_peft else ("A", "B")
    plain = file.config.get("init_lora_weights") != "pissa" if file.is_peft else file.variant(name) in PLAIN
    if not plain or held.keys() != set(names):
        return None
    A, B = (held[own].double() for own in names)
    fits = A.ndim == B.ndim == 2 and A.shape == (B.shape[1], width)
    return (A, B) if fits and bool(A.isfinite().all() and B.isfinite().all()) else None


def _entries(engine: Engine, name: str, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a layer: the singular values of its change, W's entries there, and the mean square of all of W's."""
    (left, up), (right, down) = torch.linalg.qr(B), torch.linalg.qr(A.mT)
    u, _, v = torch.linalg.svd(up @ down.mT)
    u, v = left @ u, right @ v.mT
    layer = engine.layers[name]
    adapted = _products(layer, v)
    engine.switch(name, False)
    try:
        plain = _products(layer, v)
        probes = torch.randn(len(v), PROBES, dtype=v.dtype, generator=torch.Generator().manual_seed(0))
        size = _products(layer, torch.linalg.qr(probes)[0])
    finally:
        engine.switch(name, True)
    s, t = ((u * y).sum(0) for y in (adapted - plain, plain))
    scatter = size.square().mean()
    return s, t, scatter.expand_as(s)


def _products(layer: nn.Module, v: Tensor) -> Tensor:
    """W v of each column, (d_out, columns)."""
    twin = copy.deepcopy(layer).double().eval()
    rows = v.mT
    return (twin(rows) - twin(torch.zeros_like(rows))).mT  # type: ignore[no-any-return]
