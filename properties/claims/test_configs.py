"""A config says what an adapter does: each of its fields counts, at attach and never again."""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from torch import Tensor

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import moved
from properties.subjects.attaching import seed_inits
from strategies import BlockRecipe, NestedRecipe
from strategies.options import Options, accepts, build_config, own_options, simplest
from strategies.refusals import wrong_values

MODEL = NestedRecipe(tuple(BlockRecipe(8, 12, bias=True) for _ in range(2)), weight="uneven")
# Two settings of each field that every config has.
COMMON: dict[str, tuple[Any, Any]] = {
    "r": (4, 2),
    "alpha": (3.0, 16.0),
    "dtype": ("float32", "bfloat16"),
    "target_names": ((), ("up",)),
    "exclude_names": (("readout",), ("readout", "down")),
    "target_roles": ((), ("writer",)),
    "layers": (None, (1,)),
}


@dataclass(frozen=True)
class Changed:
    """A variant's simplest config with two settings of one field."""

    variant: str
    field: str
    settings: tuple[Any, Any]

    def configs(self) -> tuple[ll.AdapterConfig, ll.AdapterConfig]:
        first, second = (self.options(setting) for setting in self.settings)
        return build_config(self.variant, first), build_config(self.variant, second)

    def options(self, setting: Any) -> Options:
        unused = ll.VARIANTS[self.variant].config_class.unused
        usual = dict(simplest(self.variant))
        usual |= {name: COMMON[name][0] for name in ("r", "alpha") if name not in unused}
        return tuple({**usual, "exclude_names": ("readout",), self.field: setting}.items())


def settings_of(variant: str) -> dict[str, tuple[Any, ...]]:
    """The settings worth trying of every field that the variant has; none for a field that declares none."""
    config = ll.VARIANTS[variant].config_class
    names = [field.name for field in dataclasses.fields(config) if field.name not in config.unused]
    return {name: own_options(variant).get(name, COMMON.get(name, ())) for name in names}


def changes(variant: str) -> st.SearchStrategy[Changed]:
    """Each field with the first of its settings and another one."""
    pairs = [(name, (s[0], other)) for name, s in settings_of(variant).items() for other in s[1:]]
    made = [Changed(variant, name, pair) for name, pair in pairs]
    return st.sampled_from(
        [one for one in made if all(accepts(variant, 8, 8, one.options(s)) for s in one.settings)]
    )


def attached(config: ll.AdapterConfig) -> tuple[ll.Adapter, Tensor]:
    """The handle and the output of an adapter away from init."""
    model = MODEL.build()
    seed_inits(0)
    adapter = moved(ll.attach(model, config, [MODEL.batch(i, size=9)["x"] for i in (1, 2)]))
    return adapter, model(**MODEL.batch(0)).detach()


@claim(changes, stage="forward", share=0.5)
def test_every_field_of_a_config_changes_what_the_adapter_does(case: Changed) -> None:
    """Two settings of one field: other layers, or another output."""
    (one, first), (other, second) = map(attached, case.configs())
    same = one.targets == other.targets and bool((first == second).all())
    assert_holds(not same, claim=f"{case.field} = {case.settings[0]!r} and {case.settings[1]!r} do the same")


@claim(st.just, stage="attach")
def test_every_field_of_a_config_declares_settings_to_try(variant: str) -> None:
    """Good ones and wrong ones, or the property above, and that of what is refused, would pass it over."""
    for name, settings in settings_of(variant).items():
        assert_holds(
            len(settings) > 1, claim=f"{name} has the settings {settings} to try; use option(values=…)"
        )
    for name, wrong in wrong_values(variant).items():
        assert_holds(bool(wrong), claim=f"{name} declares no setting that it refuses; use option(wrong=…)")


@claim(changes, stage="attach", share=0.5)
def test_a_config_that_changes_after_attach_has_no_effect(case: Changed) -> None:
    """Setting a field is refused; forcing it leaves the handle, the output and the file as they were."""
    config, other = case.configs()
    adapter, output = attached(config)
    wanted, value = dataclasses.replace(config), getattr(other, case.field)
    with assert_refuses(
        dataclasses.FrozenInstanceError, case.field, claim=f"config.{case.field} = {value!r}"
    ):
        setattr(config, case.field, value)
    object.__setattr__(config, case.field, value)
    claim = f"after config.{case.field} was forced to {value!r}:"
    assert_holds(adapter.config == wanted, claim=f"{claim} the handle says {adapter.config}")
    assert_identical(adapter.model(**MODEL.batch(0)), output, what=f"{claim} the output")
    with tempfile.TemporaryDirectory() as folder:
        ll.save(adapter.model, path := Path(folder) / "a")
        (loaded,) = ll.load(MODEL.build(), path)
    assert_holds(loaded.config == wanted, claim=f"{claim} the file says {loaded.config}")


@claim(stage="attach")
def test_a_config_is_frozen_and_holds_no_list_of_the_users() -> None:
    names, layers = ["first", "second"], [0, 1]
    config = ll.LoRAConfig(r=2, target_names=names, layers=layers)  # type: ignore[arg-type]  # lists are taken too
    names.append("third")
    layers.append(7)
    same = ll.LoRAConfig(r=2, target_names=("first", "second"), layers=(0, 1))
    assert_holds(
        config == same and hash(config) == hash(same),
        claim=f"from lists that changed since {config}, wanted {same}",
    )
    with assert_refuses(dataclasses.FrozenInstanceError, "'r'", claim="config.r = 1"):
        config.r = 1  # type: ignore[misc]  # what is tried


@claim(st.just, stage="refusal", needs=("unused setting",))
def test_a_setting_that_a_variant_does_not_have_is_refused(variant: str) -> None:
    kind = ll.VARIANTS[variant]
    for name in kind.config_class.unused:
        match = (
            f"^{kind.config_class.__name__}.{name}: found 8, wanted nothing: {variant} has no such setting"
        )
        with assert_refuses(ll.ConfigError, match, claim=f"{variant} with {name}=8"):
            build_config(variant, ((name, 8),))
