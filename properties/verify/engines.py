"""An adapter on its base, under lora_lite or under peft: which layers carry it, and a switch for each."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.disabling import Disabled
from properties.verify.bases import Base, quietly
from properties.verify.files import PREFIX, File, open_adapter
from properties.verify.report import CannotJudgeError, Report


class Engine(Protocol):
    """name: of the library. model: to be called. layers: what is called in their place, by the base's
    names.
    """

    name: str
    model: nn.Module
    layers: dict[str, nn.Module]

    def switch(self, layer: str, on: bool) -> None:
        """Off, it computes as the base's own."""

    def tensors(self) -> list[Tensor]:
        """All of the adapter's."""


@contextmanager
def only(engine: Engine, acting: Sequence[str]) -> Iterator[None]:
    """Inside, these layers alone act."""
    for name in engine.layers:
        engine.switch(name, name in acting)
    try:
        yield
    finally:
        for name in engine.layers:
            engine.switch(name, True)


class LoraLite:
    """Adapters that ll.load or ll.import_peft has attached."""

    name = "lora_lite"

    def __init__(self, model: nn.Module) -> None:
        self.model: nn.Module = model
        self.adapters = {n: a for handle in ll.adapters_of(model) for n, a in handle.layers().items()}
        self.layers = {name: model.get_submodule(name) for name in self.adapters}
        self._off: dict[str, Disabled] = {}

    def switch(self, layer: str, on: bool) -> None:
        if on and layer in self._off:
            self._off.pop(layer).__exit__(None, None, None)
        elif not on and layer not in self._off:
            self._off[layer] = Disabled(lambda: [self.adapters[layer]])
            self._off[layer].__enter__()

    def tensors(self) -> list[Tensor]:
        return [t for a in self.adapters.values() for t in (*a.parameters(), *a.buffers())]


class Peft:
    """A peft model with what of a file's tensors fits it. misfits: of the file's tensors, those that peft has
    no place for; lacking: those that it wants and the file has not, by name; odd: those of another shape, as
    (name, the file's, the wanted).
    """

    name = "peft"

    def __init__(self, base: Base, file: File) -> None:
        peft = peft_of(file.path)
        with quietly():
            config = peft.PeftConfig.from_pretrained(file.path)
            config.inference_mode = True
            kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
            self.model: Any = kind(base.model, config).eval()
            wanted = peft.get_peft_model_state_dict(self.model)
            self.misfits = sorted(set(file.tensors) - set(wanted))
            self.lacking = sorted(set(wanted) - set(file.tensors))
            both = [(name, file.tensors[name]) for name in wanted if name in file.tensors]
            self.odd = [
                (n, tuple(t.shape), tuple(wanted[n].shape)) for n, t in both if t.shape != wanted[n].shape
            ]
            fits = {name: tensor for name, tensor in both if tensor.shape == wanted[name].shape}
            # All of them: for what trained along it asks for every tensor.
            peft.set_peft_model_state_dict(self.model, {**wanted, **fits})
        self.layers = dict(self._layers())
        if not self.layers:
            raise CannotJudgeError(
                f"{file.path}: {config.peft_type.value} adapts no layer, wanted one that does."
            )

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        kinds: Any = (BaseTunerLayer, AuxiliaryTrainingWrapper)
        for name, module in self.model.named_modules():
            if isinstance(module, kinds):
                yield name.removeprefix(PREFIX), module

    def switch(self, layer: str, on: bool) -> None:
        held: Any = self.layers[layer]
        held.enable_adapters(on)

    def tensors(self) -> list[Tensor]:
        return [t for name, t in self.model.named_parameters() if ".default" in name]

    def take_off(self) -> None:
        self.model.unload()


def peft_of(path: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise CannotJudgeError(
            f"{path}: a folder of peft, which is not installed: pip install peft."
        ) from error
    return peft


@contextmanager
def on_peft(base: Base, file: File, report: Report) -> Iterator[Peft | None]:
    """Inside, the folder as peft loads it; None where it does not, which is told of."""
    try:
        engine = Peft(base, file)
    except CannotJudgeError:
        raise
    # peft's own, of any type: whoever loads the folder gets it.
    except Exception as error:
        report.fault("peft refuses it", f"{type(error).__name__}: {_first_line(error)}")
        yield None
        return
    try:
        yield engine
    finally:
        engine.take_off()


@contextmanager
def on_lora_lite(base: Base, file: File, report: Report) -> Iterator[LoraLite | None]:
    """Inside, the adapter as lora_lite loads it; None where it does not, which is told of: of a peft folder,
    which may be of a method that lora_lite has not, by a remark.
    """
    read: Any = ll.import_peft if file.is_peft else ll.load
    try:
        try:
            read(base.model, file.path)
        except ll.BaseMismatchError as error:
            report.fault("another base", "; ".join(map(str.strip, str(error).splitlines()[:3])))
            read(base.model, file.path, check_base=False)
    except ll.LoraLiteError as error:
        text = f"{type(error).__name__}: {_first_line(error)}"
        (report.remark if file.is_peft else report.fault)("lora_lite refuses it", text)
        yield None
        return
    try:
        yield LoraLite(base.model)
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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def perturb(engine: Engine, seed: int, roundoff: float) -> None:
    """Every number of the adapter off by about one rounding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in engine.tensors():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.mul_(1 + roundoff * noise.to(tensor.device))
