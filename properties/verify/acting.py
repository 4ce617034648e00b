"""Which layers of an adapter act, and what is told of those that do not."""

import math
import re
import statistics
from collections.abc import Mapping

import torch

from properties.judging.tolerance import SAFETY, coarser, unit_roundoff
from properties.verify.bases import Base
from properties.verify.effects import Seen, is_read
from properties.verify.engines import Engine
from properties.verify.files import File
from properties.verify.report import Report, percent
from properties.verify.rounding import within_rounding

NUMBER = re.compile(r"(?<=\.)\d+(?=[^\d]*$)")
# Shares of the median effect. An optimiser like Adam moves all layers about alike, and plain descent those
# with small gradients by less: a hundredth is to be looked at, and a ten-thousandth is as good as nothing.
FAR, LOST = 1e-2, 1e-4
ABOVE = "an effect far above the layer's own output"


def tell_of_uncalled(engine: Engine, base: Base, seen: dict[str, Seen], report: Report) -> None:
    uncalled = [name for name, one in seen.items() if not one.calls]
    bypassed = [name for name in uncalled if is_read(name, engine, base)]
    # One of several beside each other, as experts are, may wait for another text.
    called = {_without_last_number(name) for name, one in seen.items() if one.calls} - {None}
    spared = [n for n in uncalled if n not in bypassed and _without_last_number(n) in called]
    if bypassed:
        text = "the model reads their weights and never calls them: their adapters do nothing"
        report.fault("layers that are bypassed", text, bypassed)
    if dead := [name for name in uncalled if name not in (*bypassed, *spared)]:
        report.fault("layers that are never called", "nothing that was read called one of them", dead)
    if spared:
        text = "others beside them were called: they may be experts that want another --text"
        report.remark("layers that were not called", text, spared)


def _without_last_number(name: str) -> str | None:
    """Of a name with two numbers, of a block and of one in it; None of any other."""
    return NUMBER.sub("#", name) if len(re.findall(r"\.\d+(?=\.|$)", name)) > 1 else None


def tell_of_effects(engine: Engine, base: Base, seen: dict[str, Seen], report: Report) -> None:
    told = {layer for finding in report.faults for layer in finding.layers}
    effects = {row.layer: row.effect for row in report.rows if row.effect is not None}
    for name, effect in effects.items():
        if effect == 0 and name not in told:
            report.fault(
                "no effect", f"they change nothing, exactly: {_why_nothing(name, engine.file)}", (name,)
            )
    # Of numbers that are none the file itself has been told of, and what it leads to is no fault of others.
    spoilt = [name for name, effect in effects.items() if math.isnan(effect) and name not in told]
    if spoilt and not any(kind in finding.kind for kind in ("NaN", "Inf") for finding in report.faults):
        report.fault("NaN comes out", "their outputs hold NaN or Inf with the adapter on", spoilt)
    faint = [n for n, effect in effects.items() if n not in told and _is_faint(n, effect, engine, base, seen)]
    if faint:
        text = "they change no more than the rounding of their numbers does: they were never trained, say"
        report.fault("no effect", text, faint)
    acting = {name: effect for name, effect in effects.items() if effect > 0 and name not in faint}
    weak = [name for name, effect in acting.items() if effect <= unit_roundoff(seen[name].dtype)]
    if weak:
        report.remark(
            "an effect within rounding", "they change less than one rounding of their outputs", weak
        )
    lost = [r.layer for r in report.rows if r.alone == 0 and r.layer in acting and r.layer not in weak]
    if lost:
        report.fault(
            "no effect on the output", "they change what they give, and none of it gets further", lost
        )
    silent = [n for n in acting if n not in told and seen[n].base and not seen[n].adapted]
    if silent:
        report.fault("layers that are silenced", "their outputs are all zero with the adapter on", silent)
    _compare(acting, engine.file, report)


def _why_nothing(name: str, file: File) -> str:
    """As the file's own numbers have it."""
    if name in file.heads:
        return "their weights are those of the base, never trained, say"
    zero = [own for own, tensor in file.of(name).items() if not tensor.any()]
    return (
        f"their {' and '.join(zero)} is zero, never trained, say" if zero else "they were never trained, say"
    )


def _compare(effects: Mapping[str, float], file: File, report: Report) -> None:
    """Those that act, with each other and with what they act on."""
    if not effects:
        return
    sizes = sorted((effect, name) for name, effect in effects.items())
    (least, weakest), (most, _) = sizes[0], sizes[-1]
    middle = statistics.median(effects.values())
    of = f"{percent(least)} to {percent(most)} of a layer's output, median {percent(middle)}"
    report.about |= {"effects": of, "weakest": weakest}
    lost = [name for name, effect in effects.items() if effect < LOST * middle]
    low = [name for name, effect in effects.items() if LOST * middle <= effect < FAR * middle]
    # A head that the base has not is drawn as small as any.
    high = [name for name, effect in effects.items() if effect * FAR > 1 and name not in file.heads]
    below = "an effect far below the others'"
    if lost:
        report.fault(below, f"less than {LOST:g} of the median effect, as good as nothing", lost)
    if low:
        report.remark(below, f"less than {FAR:g} of the median effect", low)
    if broken := [name for name in high if effects[name] * LOST > 1]:
        report.fault(ABOVE, f"more than {1 / LOST:g} times the output: nothing of the base is left", broken)
    if high := [name for name in high if name not in broken]:
        report.remark(ABOVE, f"more than {1 / FAR:g} times the output", high)


def _is_faint(name: str, effect: float, engine: Engine, base: Base, seen: dict[str, Seen]) -> bool:
    dtype = coarser(coarser(seen[name].dtype, engine.file.dtype), torch.float32)
    # Where it is larger there is nothing to measure.
    return 0 < effect <= SAFETY * unit_roundoff(dtype) and within_rounding(name, engine, base)
