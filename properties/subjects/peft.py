"""peft as a subject: every tuner of its registry that attaches to a linear layer."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from properties.subjects import peft_data
from properties.subjects.introspection import families, keys_of, numbers_of
from properties.subjects.library import Library, LibraryCase, Life, Method, Settings, Stop, refusing

FIRST, SECOND = "default", "second"
# These want a transformer, a prompt or other adapters, and no linear layer; peft's registry does not say so.
NO_LAYERS = (
    "adaption_prompt",
    "xlora",
    "poly",
    "shadow",
    "cartridge",
    "cpt",
    "ln_tuning",
    "trainable_tokens",
)
# Base weights that train with the adapter are documented to stay changed; fan_in_fan_out is about Conv1D;
# what samples in each call compares with nothing; and which layers are adapted is not asked here.
LEFT_ALONE = (
    *("bias", "fan_in_fan_out", "ensure_weight_tying", "sample_at_inference"),
    *("layers_to_transform", "layers_pattern"),
)

# Without these a config is refused, or talks.
REQUIRED: dict[str, dict[str, Any]] = {
    "adalora": {"total_step": 10},
    "frod": {"progressbar": False},
    "ia3": {"feedforward_modules": []},
}
# Switches whose annotation does not tell their positions: the layers whose inputs are gated, as a pattern;
# and terms of a series, of which those short of the default are findings, and methods of their own.
SWITCHES: dict[str, dict[str, tuple[Any, ...]]] = {
    "ia3": {"feedforward_modules": (".",)},
    "oft": {"num_cayley_neumann_terms": (1, 2, 3, 4)},
}


# nn.Dropout on what the adapter's first factor is given, as the configs' "dropout probability" of its layers;
# DEFT's is on what it injects alone, and not on what it takes out.
INPUT_DROPOUTS = tuple(
    f"{name}_dropout"
    for name in (
        *("lora", "frod", "gralora", "hira", "miss", "psoft", "randlora", "tinylora"),
        *("unilora", "vblora", "vera"),
    )
)


@contextmanager
def _quietly() -> Iterator[None]:
    """peft warns of what it does on purpose; whether a fault is loud is looked at in its finding."""
    with warnings.catch_warnings(), refusing():
        warnings.simplefilter("ignore")
        yield


def _config_class(name: str) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    return {kind.value.lower(): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}[name]


def _config(case: LibraryCase, **also: Any) -> Any:
    kind = _config_class(case.family)
    targets = [str(i) for i in range(case.depth)]
    required = REQUIRED.get(case.family, {})
    return kind(**{"target_modules": targets, **required, **dict(case.settings), **also})


class PeftLife(Life):
    """A PeftModel and the adapters on it."""

    # A PeftModel.
    model: Any

    def __init__(self, model: Any, case: LibraryCase) -> None:
        self.model, self.case = model, case

    def layer(self, i: int) -> nn.Module:
        return self.model.get_base_model()[i]  # type: ignore[no-any-return]

    def base(self) -> dict[str, Tensor]:
        """peft wraps a layer and keeps it as base_layer; a layer that it leaves alone is plain."""
        found: dict[str, Tensor] = {}
        for i in range(self.case.depth):
            layer: Any = self.model.get_base_model()[i]
            layer = getattr(layer, "base_layer", layer)
            found |= {f"{i}.{name}": p.detach() for name, p in layer.named_parameters(recurse=False)}
        return found

    def merge(self) -> None:
        with _quietly():
            self.model.merge_adapter()

    def unmerge(self) -> None:
        with _quietly():
            self.model.unmerge_adapter()

    def absorb(self) -> nn.Module:
        with _quietly():
            return self.model.merge_and_unload()  # type: ignore[no-any-return]

    def detach(self) -> nn.Module:
        with _quietly():
            return self.model.unload()  # type: ignore[no-any-return]

    def disabled(self) -> AbstractContextManager[Any]:
        return self.model.disable_adapter()  # type: ignore[no-any-return]

    def scale(self, factor: float) -> None:
        for layer in self.model.get_base_model():
            layer.set_scale(FIRST, factor)

    def add_second(self, settings: Settings | None = None) -> None:
        case = self.case if settings is None else replace(self.case, settings=settings)
        with _quietly():
            self.model.add_adapter(SECOND, _config(case))

    def switch(self, *active: int) -> None:
        names = [(FIRST, SECOND)[i] for i in active]
        with _quietly():
            if len(names) == 1:
                self.model.set_adapter(names[0])
            else:
                self.model.base_model.set_adapter(names)

    def save(self, folder: Path) -> None:
        # The model card is text about the model; its template is compiled anew for each, an eighth of a case.
        with _quietly(), patch.object(type(self.model), "create_or_update_model_card"):
            self.model.save_pretrained(str(folder))

    def settings(self) -> dict[str, Any]:
        return {name: getattr(self.model.peft_config[FIRST], name) for name, _ in self.case.settings}


class Peft(Library):
    """Through get_peft_model and PeftModel, as a user would."""

    name = package = "peft"

    def missing(self) -> str | None:
        return None if find_spec("peft") else "peft is not installed: pip install peft"

    @cache  # noqa: B019  # one library a process
    def methods(self) -> Mapping[str, Method]:
        from peft.config import PeftConfig
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
        from peft.tuners.tuners_utils import BaseTuner

        known = {field.name for field in fields(PeftConfig)}
        found = {}
        for peft_type, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
            name = peft_type.value.lower()
            if name not in NO_LAYERS and issubclass(tuner, BaseTuner):
                leave = known | {*LEFT_ALONE, *REQUIRED.get(name, ())}
                switches = SWITCHES.get(name, {})
                numbers = numbers_of(_config_class(name), {*leave, *switches})
                keys = keys_of(_config_class(name), leave)
                kinds = families(_config_class(name), leave, switches)
                offers, linear = _offers(name, tuner), name not in NOT_AFFINE
                for family, kind in kinds.items():
                    full = f"{name}+{family}" if family else name
                    data = {"data"} if full in peft_data.METHODS else set()
                    found[full] = Method(
                        full,
                        kind.settings,
                        offers | data,
                        linear=linear,
                        numbers=numbers,
                        simplest=kind.simplest,
                        keys=keys,
                        apart=kind.apart,
                    )
        return found

    def identity(self, case: LibraryCase) -> bool:
        """As the default of each init setting is documented; FourierFT's default draws its spectrum."""
        given = dict(case.settings)
        own = {f.name: f.default for f in fields(_config_class(case.family)) if f.name.startswith("init_")}
        values = [given.get(name, default) for name, default in own.items() if "weights" in name]
        if case.family in DRAWN_INIT:
            return values == [True]
        # In few bits the weight is another one, but for what the adapter makes up for.
        if "loftq" in values:
            return False
        # HRAConfig: "best to set `r` to an even number; otherwise, the default initialization ... not work".
        odd = case.family == "hra" and given.get("r", 2) % 2 == 1
        # DeftConfig: "the adapter cannot be an identity at init"; UniLoRA and VB-LoRA avoid zeros.
        never = given.get("para") is True or case.family in ("unilora", "vblora")
        return all(value not in (False, None) for value in values) and not odd and not never

    def settings(self, life: Any, case: LibraryCase) -> Any:
        return life.model.peft_config[FIRST]

    def stops(self, case: LibraryCase) -> Stop | None:
        """DoRA's norm is a constant for the gradient: section 4.3 of its paper, cited in peft's layer. COFT
        projects its weights in place, in the forward; OSF projects its gradients. Both are what they are.
        """
        if ("use_dora", True) in case.settings:
            from peft.tuners.lora.dora import DoraLinearLayer

            return Stop(DoraLinearLayer, "get_weight_norm")
        if ("coft", True) in case.settings:
            from peft.tuners.oft.layer import OFTRotationModule

            return Stop(OFTRotationModule, "_project_batch", passed=True)
        return Stop(None) if case.family == "osf" else None

    def attach(self, model: nn.Module, case: LibraryCase) -> Life:
        from peft import get_peft_model

        with _quietly():
            return PeftLife(get_peft_model(model, _config(case)), case)

    def input_dropouts(self, family: str) -> tuple[str, ...]:
        """SuperTuning's is "for Supra mode" alone, the LoRA beside its sparse update."""
        return () if family == "supertuning" else INPUT_DROPOUTS

    def draws_once(self, case: LibraryCase) -> bool:
        """Hybrid GraLoRA is "a combination of GraLoRA and vanilla LoRA", each with a dropout of its own."""
        return not dict(case.settings).get("hybrid_r")

    def nothing_to_drop(self, case: LibraryCase) -> bool:
        """SuperTuning's dropout is that of its LoRA, which it has where r is above 0."""
        return case.family == "supertuning" and not dict(case.settings).get("r")

    def attach_with(self, model: nn.Module, case: LibraryCase, batches: list[Tensor]) -> Life:
        also = peft_data.given(dict(case.settings)["init_lora_weights"], case.seed)
        return PeftLife(peft_data.attach(model, _config(case, **also), batches, case.seed), case)

    def told(self, settings: Any) -> dict[str, Any]:
        bits = (settings.loftq_config or {}).get("loftq_bits")
        return {"method": getattr(settings.corda_config, "corda_method", None), "bits": bits}

    def load(self, model: nn.Module, folder: Path, case: LibraryCase) -> Life:
        from peft import PeftModel

        with _quietly():
            return PeftLife(PeftModel.from_pretrained(model, str(folder), is_trainable=True), case)


# Their update passes through an activation or a router of the input, as their papers have it.
NOT_AFFINE = ("peanut", "lily")
# The docstrings of their configs: the default draws the weights, and True makes a no-op of them.
DRAWN_INIT = ("fourierft", "c3a")


def _offers(name: str, tuner: Any) -> frozenset[str]:
    """What the layers of this tuner have methods for. PVeRA is variational: it samples while it trains."""
    offers = {"merge", "unmerge", "absorb", "detach", "disable", "second", "together", "save", "settings"}
    offers |= {"scale"} if hasattr(tuner.tuner_layer_cls, "set_scale") else set()
    offers |= {"steady"} if name != "pvera" else set()
    return frozenset(offers)
