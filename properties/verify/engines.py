"""An adapter on its base, under lora_lite or under peft: which layers carry it, and a switch for each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from torch import Tensor, nn

import lora_lite as ll
from lora_lite.disabling import Disabled
from properties.verify.bases import Base
from properties.verify.files import PREFIX, File
from properties.verify.kept import Kept
from properties.verify.opening import quietly
from properties.verify.report import CannotJudgeError

# Of init_lora_weights: these rewrite the base from what no file holds, activations, gradients or a GPU's
# quantisation. peft refuses them at load, or leaves the base as it is.
WANTS_MORE = ("corda", "loftq", "lora_ga")


class Engine(Protocol):
    """name: of the library. file: what it was loaded from. model: to be called. layers: what is called in
    their place, by the base's names.
    """

    name: str
    file: File
    model: nn.Module
    layers: dict[str, nn.Module]

    def switch(self, layer: str, on: bool) -> None:
        """Off, it computes as the base's own."""

    def tensors(self, layer: str | None = None) -> list[Tensor]:
        """All of the adapter's, or those of one layer."""


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

    def __init__(self, model: nn.Module, file: File) -> None:
        self.model: nn.Module = model
        self.file = file
        self.adapters = {n: a for handle in ll.adapters_of(model) for n, a in handle.layers().items()}
        self.layers = {name: model.get_submodule(name) for name in self.adapters}
        self._off: dict[str, Disabled] = {}

    def switch(self, layer: str, on: bool) -> None:
        if on and layer in self._off:
            self._off.pop(layer).__exit__(None, None, None)
        elif not on and layer not in self._off:
            self._off[layer] = Disabled(lambda: [self.adapters[layer]])
            self._off[layer].__enter__()

    def tensors(self, layer: str | None = None) -> list[Tensor]:
        held = self.adapters.values() if layer is None else [self.adapters[layer]]
        return [t for a in held for t in (*a.parameters(), *a.buffers())]


class Peft:
    """A peft model with what of a file's tensors fits it. misfits: of the file's tensors, those that peft has
    no place for; lacking: those that it wants and the file has not, by name; odd: those of another shape, as
    (name, the file's, the wanted); whole: integers where it has others; rewritten: the base's weights that
    its init has replaced.
    """

    name = "peft"

    def __init__(self, base: Base, file: File) -> None:
        peft = peft_of(file.path)
        self.file = file
        self._kept = Kept(base.model, base.weights)
        try:
            self._wrap(peft, base, file)
        except BaseException:
            self._kept.put_back()
            raise
        # What loading wrote, too; a second base in memory ends here.
        self._kept.only_changed()
        self.layers = dict(self._layers())
        if not self.layers:
            raise CannotJudgeError(
                f"{file.path}: {file.config.get('peft_type')} adapts no layer, wanted one that does."
            )

    def _wrap(self, peft: Any, base: Base, file: File) -> None:
        with quietly():
            config = peft.PeftConfig.from_pretrained(file.path)
            config.inference_mode = True
            kind = peft.MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, peft.PeftModel)
            self.model: Any = kind(base.model, config).eval()
            self.rewritten = self._kept.changed()
            wanted = peft.get_peft_model_state_dict(self.model)
            self.misfits = sorted(set(file.tensors) - set(wanted))
            self.lacking = sorted(set(wanted) - set(file.tensors))
            both = [(name, file.tensors[name]) for name in wanted if name in file.tensors]
            self.odd = [
                (n, tuple(t.shape), tuple(wanted[n].shape)) for n, t in both if t.shape != wanted[n].shape
            ]
            self.whole = [n for n, t in both if wanted[n].is_floating_point() and not t.is_floating_point()]
            fits = {name: tensor for name, tensor in both if tensor.shape == wanted[name].shape}
            # All of them: for what trained along it asks for every tensor.
            peft.set_peft_model_state_dict(self.model, {**wanted, **fits})

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        kinds: Any = (BaseTunerLayer, AuxiliaryTrainingWrapper)
        outer = "."
        for name, module in self.model.named_modules():
            # Of one in another, as trained tokens have, the outer one switches both.
            if isinstance(module, kinds) and not name.startswith(outer):
                outer = f"{name}."
                yield name.removeprefix(PREFIX), module

    def switch(self, layer: str, on: bool) -> None:
        held: Any = self.layers[layer]
        held.enable_adapters(on)

    def tensors(self, layer: str | None = None) -> list[Tensor]:
        held = self.model if layer is None else self.layers[layer]
        return [t for name, t in held.named_parameters() if ".default" in name]

    def take_off(self) -> None:
        self.model.unload()
        self._kept.put_back()


def wants_more(file: File) -> bool:
    return str(file.config.get("init_lora_weights")).startswith(WANTS_MORE)


def peft_of(path: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise CannotJudgeError(
            f"{path}: a folder of peft, which is not installed: pip install peft."
        ) from error
    return peft
