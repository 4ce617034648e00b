"""A config says what an adapter does: each of its fields counts, at attach and never again."""

import dataclasses
import itertools
import json
import math
from contextlib import suppress
from dataclasses import fields
from typing import Any

import torch
from hypothesis import strategies as st

import lora_lite as ll
from properties.judging.agreement import round_trip
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.fixed_models import moved
from properties.subjects import subject
from properties.subjects.attaching import attach, seed_inits
from properties.subjects.layer_runs import default_run
from strategies.configs import Changed, changes, settings_of
from strategies.options import build_config, own_options
from strategies.refusals import wrong_values


@claim(changes, stage="forward", share=0.5)
def test_every_field_of_a_config_changes_what_the_adapter_does(case: Changed) -> None:
    """Two settings of one field: other layers, or another output."""
    cases = case.cases()
    models = [attach(one).model for one in cases]
    targets = [list(subject.tensors(model)) for model in models]
    first, second = (default_run(one)(model) for one, model in zip(cases, models, strict=True))
    same = targets[0] == targets[1] and bool((first == second).all())
    told = " and ".join(f"{case.field}={setting!r}" for setting in case.settings)
    found = f"with {told} the same layers are adapted, and the output is the same"
    assert_holds(not same, claim=found)


@claim(st.just, stage="attach", subject="lora_lite")
def test_every_field_of_a_config_declares_settings_to_try(variant: str) -> None:
    """Good ones and wrong ones, or the property above, and that of what is refused, would pass it over."""
    for name, settings in settings_of(variant).items():
        found = f"{name} of {variant} declares the settings {settings} to try; use option(values=…)"
        assert_holds(len(settings) > 1, claim=f"{found} with two at least")
    for name, wrong in wrong_values(variant).items():
        found = f"{name} of {variant} declares no setting that it refuses; use option(wrong=…)"
        assert_holds(bool(wrong), claim=found)


@claim(st.just, stage="refusal", subject="lora_lite")
def test_every_setting_that_a_config_declares_to_try_is_taken(variant: str) -> None:
    """With some settings of its other fields: what is refused is never drawn, and so no other claim tells."""
    own = own_options(variant)
    taken = set()
    for values in itertools.product(*own.values()):
        with suppress(ll.ConfigError):
            build_config(variant, tuple(zip(own, values, strict=True)))
            taken |= set(zip(own, map(repr, values), strict=True))
    for name, values in own.items():
        refused = [value for value in values if (name, repr(value)) not in taken]
        found = f"{name} of {variant} declares {refused} among the values to try, and refuses them"
        assert_holds(not refused, claim=found)


@claim(changes, stage="attach", share=0.5, subject="lora_lite")
def test_a_config_that_changes_after_attach_has_no_effect(case: Changed) -> None:
    """Setting a field is refused; forcing it leaves the handle, the output and the file as they were."""
    given, other = case.cases()
    config = build_config(given.variant, given.options)
    wanted = dataclasses.replace(config)
    value = getattr(build_config(other.variant, other.options), case.field)
    run = default_run(given)
    seed_inits(0)
    adapter = moved(ll.attach(model := given.build(), config, given.calibration()))
    output = run(model).detach()
    tried = f"config.{case.field} = {value!r}"
    with assert_refuses(dataclasses.FrozenInstanceError, case.field, claim=tried):
        setattr(config, case.field, value)
    object.__setattr__(config, case.field, value)
    after = f"after config.{case.field} was forced to {value!r}"
    assert_holds(adapter.config == wanted, claim=f"{after} the handle says {adapter.config}, wanted {wanted}")
    assert_identical(run(model), output, what=f"the output {after}", like="as before")
    (loaded,) = ll.adapters_of(round_trip(model, given.build()))
    assert_holds(loaded.config == wanted, claim=f"{after} the file says {loaded.config}, wanted {wanted}")


@claim(stage="attach", subject="lora_lite")
def test_a_config_is_frozen_and_holds_no_list_of_the_users() -> None:
    """A list that the user goes on using is taken as it was."""
    names, layers = ["first", "second"], [0, 1]
    config = ll.LoRAConfig(r=2, target_names=names, layers=layers)  # type: ignore[arg-type]  # lists are taken too
    names.append("third")
    layers.append(7)
    same = ll.LoRAConfig(r=2, target_names=("first", "second"), layers=(0, 1))
    found = f"a config made from lists that have changed since is {config}, wanted {same}"
    assert_holds(config == same and hash(config) == hash(same), claim=found)
    with assert_refuses(dataclasses.FrozenInstanceError, "'r'", claim="config.r = 1"):
        config.r = 1  # type: ignore[misc]  # what is tried
    told = config.to_json()
    read = json.loads(json.dumps(told))
    assert_holds(told == read, claim=f"config.to_json() is {told}, which JSON gives back as {read}")


@claim(st.just, stage="refusal", needs=("unused setting",), subject="lora_lite")
def test_a_setting_that_a_variant_does_not_have_is_refused(variant: str) -> None:
    """Whatever its value."""
    kind = ll.VARIANTS[variant].config_class
    for name in kind.unused:
        match = f"^{kind.__name__}.{name}: found 8, wanted nothing: {variant} has no such setting"
        with assert_refuses(ll.ConfigError, match, claim=f"{kind.__name__}({name}=8)"):
            build_config(variant, ((name, 8),))


@claim(stage="refusal", subject="lora_lite")
def test_the_ends_of_stated_ranges_are_accepted() -> None:
    """And what lies beyond is not, which others claim."""
    tiny, large = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    ends: list[tuple[type[ll.AdapterConfig], dict[str, Any]]] = [
        (ll.LoRAConfig, {"r": 1, "alpha": tiny}),
        (ll.LoRAConfig, {"r": 1, "alpha": large}),
        (ll.LoRAConfig, {"r": 1}),
        (ll.LoRAConfig, {"r": 2**20, "alpha": 1.0}),
        (ll.LoRAConfig, {"layers": (0,)}),
        (ll.HRAConfig, {"r": 2**12}),
        (ll.PiSSAConfig, {"niter": 1000}),
        (ll.DeLoRAConfig, {"lambda_init": 0}),
        (ll.DeLoRAConfig, {"lambda_init": tiny**0.5}),
        (ll.DeLoRAConfig, {"lambda_init": large**0.5}),
        (ll.AntiPaSTOConfig, {"max_skew": tiny**0.5}),
        (ll.AntiPaSTOConfig, {"max_skew": math.nextafter(math.pi, 0)}),
        (ll.EVAConfig, {"r": 1, "alpha": large, "rho": 2.0}),
        (ll.EVAConfig, {"rho": 1.0}),
        (ll.EVAConfig, {"r": 2**19, "rho": 2.0}),
    ]
    for kind, options in ends:
        with assert_runs(f"{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"):
            kind(**options)


DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 8, "alpha": 16.0},
    "pissa": {"r": 8, "alpha": 16.0, "niter": None},
    "dora": {"r": 8, "alpha": 16.0},
    "delora": {"r": 8, "lambda_init": 15.0, "init": "frozen_copy"},
    "hra": {"r": 8},
    "eva": {"r": 8, "alpha": 16.0, "rho": 1.0},
}


@claim(stage="attach", subject="lora_lite")
def test_defaults_are_as_documented() -> None:
    """A default that jumps trains another adapter than yesterday's, without a word."""
    for variant, wanted in DEFAULTS.items():
        config = ll.VARIANTS[variant].config_class()
        own = {f.name: getattr(config, f.name) for f in fields(config) if f.name in wanted}
        assert_holds(repr(own) == repr(wanted), claim=f"{variant}: the defaults are {own}, wanted {wanted}")
        assert_holds(config.dtype == torch.float32, claim=f"{variant}: the default dtype is {config.dtype}")
