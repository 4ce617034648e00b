"""An adapter put on its base for a while, by lora_lite or by peft; what does not load is told of."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lora_lite as ll
from properties.verify.bases import Base
from properties.verify.engines import LoraLite, Peft, peft_of, wants_more
from properties.verify.files import File, open_adapter
from properties.verify.report import CannotJudgeError, Report

LONGEST = 240


def other_base(file: File) -> CannotJudgeError:
    """What peft makes of this base is another one."""
    init = file.config.get("init_lora_weights")
    name = f"init_lora_weights={init!r}" if init else f"peft_type={file.config.get('peft_type')}"
    return CannotJudgeError(
        f"{file.path}: with {name} peft puts other weights in place of the base's, and the adapter's effect"
        " on the base itself cannot be told; wanted a folder that peft has converted to a LoRA"
        " (path_initial_model_for_weight_conversion)."
    )


@contextmanager
def on_peft(base: Base, file: File, report: Report) -> Iterator[Peft | None]:
    """Inside, the folder as peft loads it; None where it does not, which is told of."""
    if file.config.get("layer_replication"):
        raise CannotJudgeError(
            f"{file.path}: with layer_replication peft builds another model than the base, whose layers it is"
            " then on; wanted an adapter on the base's own."
        )
    try:
        engine = Peft(base, file)
    except CannotJudgeError:
        raise
    # peft's own, of any type: whoever loads the folder gets it.
    except Exception as error:
        if wants_more(file) and not report.faults:
            raise other_base(file) from error
        report.fault("peft refuses it", f"{type(error).__name__}: {_first_line(error)}")
        yield None
        return
    try:
        yield engine
    finally:
        engine.take_off()


@contextmanager
def on_lora_lite(base: Base, file: File, report: Report) -> Iterator[LoraLite | None]:
    """Inside, the adapter as lora_lite loads it; None where it does not, which is told of: of a folder that
    peft wrote, which may be of a method that lora_lite has not, by a remark.
    """
    read: Any = ll.import_peft if file.is_peft else ll.load
    try:
        try:
            read(base.model, file.path)
        except ll.BaseMismatchError as error:
            report.fault("another base", _shortened(str(error).splitlines()))
            read(base.model, file.path, check_base=False)
    except ll.LoraLiteError as error:
        text = f"{type(error).__name__}: {_first_line(error)}"
        foreign = file.is_peft and not file.base
        (report.remark if foreign else report.fault)("lora_lite refuses it", text)
        yield None
        return
    try:
        yield LoraLite(base.model, file)
    finally:
        ll.detach(base.model)


@contextmanager
def exported(base: Base, report: Report) -> Iterator[File | None]:
    """Inside, the adapters that are on the base as a peft folder; None where it cannot be compared."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            peft_of(folder)
            ll.export_peft(base.model, folder)
        except (CannotJudgeError, ll.LoraLiteError) as error:
            report.remark("not compared with peft", _first_line(error))
            yield None
            return
        yield open_adapter(folder)


def _shortened(lines: list[str]) -> str:
    """Of what load says of another base: two of the tensors that differ, and what it suspects."""
    differ = [line.strip() for line in lines[1:-1] if line.startswith(" ")]
    return "; ".join([*differ[:2], *(line for line in lines[1:-1] if not line.startswith(" "))])


def _first_line(error: BaseException) -> str:
    line = (str(error).splitlines() or [""])[0]
    # peft lists all target modules, in no order.
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} …"
