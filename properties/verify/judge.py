"""From a base and an adapter to a report: every check in its turn."""

from contextlib import ExitStack

import torch

from properties.judging.tolerance import SAFETY, coarser, unit_roundoff
from properties.verify import merged as merging
from properties.verify.acting import tell_of_effects, tell_of_uncalled
from properties.verify.bases import Base, change, open_base, outputs
from properties.verify.effects import rows, watch
from properties.verify.engines import Engine, wants_more
from properties.verify.files import DamagedError, File, look_at_numbers, open_adapter
from properties.verify.kept import perturbed, rounded
from properties.verify.loading import exported, on_lora_lite, on_peft, other_base
from properties.verify.merged_before import tell_of_a_merged_base
from properties.verify.names import look_at_names, tell_of_misfits
from properties.verify.report import Report
from properties.verify.rounding import PROBES


def verify(
    base: str | Base,
    adapter: str,
    *,
    merged: str | None = None,
    text: str | None = None,
    kind: str | None = None,
) -> Report:
    """What `python -m properties.verify` tells. base: a folder of transformers, or a model that is at hand.

    Raises CannotJudgeError.
    """
    report = Report()
    report.about["adapter"] = adapter
    try:
        file = open_adapter(adapter)
    except DamagedError as error:
        report.fault("the file is damaged", str(error))
        return report
    if not isinstance(base, Base):
        base = open_base(base, kind=kind, file=file, text=text)
    report.about |= {"base": base.path, "read": base.inputs}
    if base.kind:
        report.about["class"] = base.kind
    for note in base.notes:
        report.remark("the base is not whole", note)
    look_at_numbers(file, report)
    look_at_names(file, base, report)
    if file.is_peft:
        _judge_peft(file, base, merged, kind, report)
    else:
        _judge_lora_lite(file, base, merged, kind, report)
    return report


def _judge_peft(file: File, base: Base, merged: str | None, kind: str | None, report: Report) -> None:
    with on_lora_lite(base, file, report) as ours:
        result = None if ours is None else (outputs(ours.model, base.batches), _bound(ours, base))
        # Without its adapter a layer of peft's computes with the residual, and here with the base's weight.
        measured = ours is not None and file.config.get("init_lora_weights") == "pissa"
        if ours is not None and measured:
            _measure(ours, base, merged, kind, report)
    with on_peft(base, file, report) as engine:
        if engine is not None:
            tell_of_misfits(engine, base, report)
            if not measured and not (engine.rewritten or wants_more(file)):
                _measure(engine, base, merged, kind, report)
            elif not measured and not report.faults:
                raise other_base(file)
            if result is not None:
                _compare(*result, outputs(engine.model, base.batches), report)


def _judge_lora_lite(file: File, base: Base, merged: str | None, kind: str | None, report: Report) -> None:
    with ExitStack() as stack:
        with on_lora_lite(base, file, report) as engine:
            if engine is None:
                return
            _measure(engine, base, merged, kind, report)
            result = outputs(engine.model, base.batches), _bound(engine, base)
            as_peft = stack.enter_context(exported(base, report))
        if as_peft is not None:
            there = stack.enter_context(on_peft(base, as_peft, report))
            if there is not None:
                _compare(*result, outputs(there.model, base.batches), report)


def _measure(engine: Engine, base: Base, merged: str | None, kind: str | None, report: Report) -> None:
    seen, now = watch(engine, base)
    report.about["acts under"] = engine.name
    report.change = change(now, base.outputs)
    report.rows = rows(engine, base, seen)
    tell_of_uncalled(engine, base, seen, report)
    tell_of_effects(engine, base, seen, report)
    tell_of_a_merged_base(engine, seen, report)
    if merged is not None:
        merging.compare(report, merged, kind, base, engine, seen)


def _bound(engine: Engine, base: Base) -> float:
    """How far rounding may move the output: as the error model has it, with the adapter's numbers, and what
    its layers give, off by one rounding of the coarsest dtype in it.
    """
    dtype = torch.float64
    for tensor in (*engine.tensors(), *base.weights.values()):
        if tensor.is_floating_point():
            dtype = coarser(dtype, tensor.dtype)
    exact = outputs(engine.model, base.batches)
    off = []
    for seed in range(PROBES):
        roundoff = unit_roundoff(dtype)
        with perturbed(engine.tensors(), seed, roundoff), rounded(engine.layers.values(), seed, roundoff):
            off.append(change(outputs(engine.model, base.batches), exact))
    return float(SAFETY * (sum(x * x for x in off) / PROBES) ** 0.5 + torch.finfo(dtype).eps)


def _compare(ours: list[torch.Tensor], bound: float, theirs: list[torch.Tensor], report: Report) -> None:
    """lora_lite's and peft's outputs on the same text."""
    if not any(bool(row.isfinite().all()) for row in (torch.cat(ours), torch.cat(theirs))):
        report.about["lora_lite and peft"] = "both give NaN or Inf"
        return
    off = change(theirs, ours)
    told = f"{off:.2g} apart, the bound is {bound:.2g}"
    report.about["lora_lite and peft"] = told
    if not off <= bound:
        report.fault("lora_lite and peft disagree", f"their outputs are {told}")
