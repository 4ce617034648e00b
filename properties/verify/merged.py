"""A merged checkpoint against base + adapter: how often each layer holds its adapter's change, and what else
is off, in roundings of its dtype.

The merged weight is M = W + c Δ + rest, with Δ the change that the adapter makes of W. c should be 1: its
bound is that of the error model (judging/tolerance.py, in closed form), where entries are rounded alone and
with their row or column. The rest should be what storing a sum rounds, and what a chain of roundings does to
Δ.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from properties.judging.tolerance import SAFETY, unit_roundoff
from properties.verify.bases import Base, change, outputs
from properties.verify.effects import Seen
from properties.verify.engines import Engine
from properties.verify.opening import open_model
from properties.verify.report import Fit, Report, Row, percent

ROWS_AT_ONCE = 512


@torch.no_grad()
def matrix(layer: nn.Module, width: int) -> Tensor:
    """What a layer multiplies its input with, (d_out, d_in) in float64, whatever computes it."""
    twin: Any = copy.deepcopy(layer).double().eval()
    zero = twin(torch.zeros(1, width, dtype=torch.float64))
    basis = torch.split(torch.eye(width, dtype=torch.float64), ROWS_AT_ONCE)
    return torch.cat([twin(rows) - zero for rows in basis]).mT


def fit(M: Tensor, W: Tensor, adapted: Tensor, dtype: torch.dtype) -> Fit | None:
    """None where the adapter changes nothing here."""
    delta, u = adapted - W, unit_roundoff(dtype)
    size = float(delta.square().sum())
    if not size:
        return None
    times = float(((M - W) * delta).sum()) / size
    part = adapted * delta
    spread = part.square().sum() + part.sum(0).square().sum() + part.sum(1).square().sum()
    bound = SAFETY * u * float(spread.sqrt()) / size
    rest = float((M - W - times * delta).norm())
    unit = u * float(adapted.norm())
    # A sum that is stored once; and the change, a chain of roundings.
    return Fit(times, bound, rest / unit, 2 + SAFETY * u * size**0.5 / unit)


def compare(
    report: Report, path: str, kind: str | None, base: Base, engine: Engine, seen: dict[str, Seen]
) -> None:
    """Tell of a merged checkpoint, while the adapter is on the base."""
    opened = open_model(path, kind or type(base.model).__name__)
    model, missing = opened.model, opened.missing
    report.about["merged"] = path
    if missing:
        report.fault("the merged checkpoint lacks tensors", f"{path} holds no {', '.join(missing[:3])}")
    spoilt = [name.rpartition(".")[0] for name, p in model.named_parameters() if not p.isfinite().all()]
    if spoilt:
        report.fault("NaN in the merged checkpoint", "NaN or Inf among its numbers", dict.fromkeys(spoilt))
    adapted = outputs(engine.model, base.batches)
    names = dict(model.named_modules())
    for row in report.rows:
        layer = names.get(row.layer)
        if layer is None:
            report.fault("the merged checkpoint lacks layers", "no such layer there", (row.layer,))
        elif seen[row.layer].width and isinstance(seen[row.layer].effect, float):
            _compare_layer(report, row, layer, engine, seen[row.layer])
    _tell_of_fits(report)
    _compare_the_others(report, model, base, set(engine.layers))
    off = change(outputs(model, base.batches), adapted)
    share = percent(off / report.change) if report.change else "-"
    report.about["merged output"] = (
        f"{percent(off)} off that of base + adapter, {share} of what the adapter changes there"
    )


def _compare_layer(report: Report, row: Row, layer: nn.Module, engine: Engine, seen: Seen) -> None:
    weight = next((p for p in layer.parameters(recurse=False) if p.ndim == 2), None)
    if weight is None or isinstance(layer, nn.Embedding):
        return
    carrier = engine.layers[row.layer]
    adapted = matrix(carrier, seen.width)
    engine.switch(row.layer, False)
    try:
        W = matrix(carrier, seen.width)
    finally:
        engine.switch(row.layer, True)
    M = matrix(layer, seen.width)
    if M.shape != W.shape:
        report.fault(
            "the merged checkpoint has other shapes", f"{tuple(M.shape)}, base {tuple(W.shape)}", (row.layer,)
        )
    elif (found := fit(M, W, adapted, weight.dtype)) is not None:
        row.merged = found
        report.about["merged dtype"] = str(weight.dtype).removeprefix("torch.")


def _tell_of_fits(report: Report) -> None:
    """Layers alike together: those without the adapter, those that hold it twice, those that differ else."""
    kind = "the merged checkpoint is not base + adapter"
    fits = {row.layer: row.merged for row in report.rows if row.merged is not None}
    blind = [name for name, fit in fits.items() if fit.bound >= 0.5]
    off = {n: fit for n, fit in fits.items() if abs(fit.times - 1) > fit.bound and n not in blind}
    for times, text in (
        (0, "the merged weight is the base's: the adapter was not merged, or the base has it already"),
        (2, "the merged weight holds the adapter's change twice"),
    ):
        layers = [name for name, fit in off.items() if abs(fit.times - times) <= fit.bound]
        off = {name: fit for name, fit in off.items() if name not in layers}
        if layers:
            report.fault(kind, text, layers)
    rest = {name: fit for name, fit in fits.items() if fit.rest > fit.most}
    # What else is in a weight has a share along the change, too.
    if off := {name: fit for name, fit in off.items() if name not in rest}:
        ends = [f"{end(fit.times for fit in off.values()):.3g}" for end in (min, max)]
        found = " to ".join(dict.fromkeys(ends))
        report.fault(kind, f"the merged weight holds {found} × the adapter's change: another alpha / r", off)
    dtype = report.about.get("merged dtype", "")
    if rest:
        worst = max(fit.rest for fit in rest.values())
        report.fault(
            kind, f"the merged weight is off by up to {worst:.3g} roundings of {dtype} besides", rest
        )
    if blind:
        text = (
            f"the adapter's change is lost in the roundings of {dtype}: whether it was merged cannot be told"
        )
        report.remark("merged too coarsely to tell", text, blind)


def _compare_the_others(report: Report, model: nn.Module, base: Base, adapted: set[str]) -> None:
    """What carries no adapter is the base's, as that dtype has it."""
    off = []
    for name, tensor in model.named_parameters():
        owner = name.rpartition(".")[0]
        kept = base.weights.get(name)
        if owner not in adapted and kept is not None and not torch.equal(tensor, kept.to(tensor.dtype)):
            off.append(owner)
    if off:
        text = "it differs from the base where there is no adapter: merged onto another one, or trained since"
        report.fault("the merged checkpoint is of another base", text, dict.fromkeys(off))
