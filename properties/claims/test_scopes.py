"""One adapted model seen from several sides: its parts, its whole, a compiled wrapper."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lora_lite as ll
from lora_lite.spec import zeros
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses
from properties.judging.claim import claim


def whole() -> Any:
    return nn.ModuleDict({"part": nn.Sequential(nn.Linear(4, 4)), "rest": nn.Linear(4, 4)})


@claim(stage="scope")
def test_adapters_of_a_part_are_not_overlooked_by_the_whole() -> None:
    """Attached through a part, the whole refuses to attach, save, merge and detach, and says which layer."""
    model = whole()
    ll.attach(model["part"], ll.LoRAConfig(r=2))
    with tempfile.TemporaryDirectory() as folder:
        for what, act in {
            "attach": lambda: ll.attach(model, ll.IA3Config(target_names=("rest",))),
            "save": lambda: ll.save(model, Path(folder) / "a"),
            "merge": lambda: ll.merge(model),
            "detach": lambda: ll.detach(model),
        }.items():
            with assert_refuses(
                ll.TargetError, "part.0: carries an adapter that was attached through another", claim=what
            ):
                act()  # type: ignore[no-untyped-call]  # a lambda


@claim(stage="scope")
def test_adapters_of_the_whole_are_not_overlooked_by_a_part() -> None:
    """Attached through the whole, a part refuses a second adapter of its own."""
    model = whole()
    ll.attach(model, ll.LoRAConfig(r=2, target_names=("part.0",)))
    model["part"].append(nn.Linear(4, 4))
    with assert_refuses(
        ll.TargetError, "0: carries an adapter that was attached through another", claim="attach to a part"
    ):
        ll.attach(model["part"], ll.IA3Config(target_names=("1",)))


@claim(stage="engine")
def test_a_compiled_wrapper_stands_for_its_model() -> None:
    """Names carry no prefix, and detach gives the base's flags back."""
    model = whole()
    wrapper: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]  # a module for a module
    adapter = ll.attach(wrapper, ll.LoRAConfig(r=2))
    assert_holds(
        adapter.targets == ("part.0", "rest"),
        claim=f"targets through a compiled wrapper are {adapter.targets}",
    )
    ll.detach(wrapper)
    assert_holds(
        all(p.requires_grad for p in model.parameters()),
        claim="detach through a compiled wrapper left the base frozen",
    )


@claim(stage="refusal")
def test_initial_values_that_overflow_are_refused() -> None:
    """A base too large for a half-precision adapter: attach refuses, and the base computes as before."""
    layer = nn.Linear(4, 4)
    layer.weight.data.mul_(1e12)
    model = nn.Sequential(layer)
    x = torch.randn(3, 4)
    before = model(x).detach()
    for config in (ll.PiSSAConfig, ll.DoRAConfig, ll.AntiPaSTOConfig):
        with assert_refuses(
            ll.ConfigError, "0: .* initial values overflow torch.float16", claim=config.__name__
        ):
            ll.attach(model, config(r=4, dtype=torch.float16))
        assert_identical(model(x).detach(), before, what="the output after a refused attach")
    layer.weight.data.mul_(1e8)
    for of_norms in (ll.DoRAConfig, ll.DeLoRAConfig):
        with assert_refuses(
            ll.ConfigError,
            "0: .* initial values overflow torch.float32",
            claim=f"{of_norms.__name__}, squares",
        ):
            ll.attach(model, of_norms(r=4))
        ll.attach(model, of_norms(r=4, dtype=torch.float64)).detach()  # as the error says
    for dtype, strength in ((torch.float16, 7e4), (torch.float32, 1e39)):
        with assert_refuses(
            ll.ConfigError, f"lambda_init: found .* largest of {dtype}", claim="a strength that overflows"
        ):
            ll.DeLoRAConfig(lambda_init=strength, dtype=dtype)


@claim(stage="refusal")
def test_tensors_are_declared_in_specs_as_such() -> None:
    """load builds a module from its file: what only __init__ knows, and a shape that is none, would be missed
    there.
    """
    own_init = type("Own", (ll.LoRA,), {"__init__": lambda self, shape, config, device=None: None})
    with assert_refuses(
        ll.ConfigError, "Own: found .*, wanted Variant.__init__: declare", claim="an __init__ of its own"
    ):
        ll.register(own_init)
    with assert_refuses(ll.ConfigError, r"ParamSpec.shape: found \[3\]", claim="a list for a shape"):
        ll.ParamSpec([3], zeros, first_gradient="nonzero")  # type: ignore[arg-type]  # what is refused
    with assert_refuses(
        ll.ConfigError, "ParamSpec.first_gradient: found 'no'", claim="a first gradient that is misspelt"
    ):
        ll.ParamSpec((3,), zeros, first_gradient="no")  # type: ignore[arg-type]  # what is refused


@claim(stage="refusal")
def test_a_tensor_that_nothing_fills_is_refused() -> None:
    """Beside others that an inherited initialise does fill."""

    def specs(cls: Any, shape: ll.LinearShape, config: Any) -> dict[str, ll.ParamSpec]:
        return {**ll.DoRA.specs(shape, config), "g": ll.ParamSpec((3,), first_gradient="zero")}

    config = type("ForgottenConfig", (ll.DoRAConfig,), {"variant": "forgotten"})
    kind = type(
        "Forgotten", (ll.DoRA,), {"name": "forgotten", "config_class": config, "specs": classmethod(specs)}
    )
    try:
        ll.register(kind)
        with assert_refuses(
            ll.ConfigError, "0: forgotten: nothing fills g", claim="a tensor that nothing fills"
        ):
            ll.attach(nn.Sequential(nn.Linear(4, 4)), config(r=2))
    finally:
        del ll.VARIANTS["forgotten"]  # it must not judge the other properties


@claim(stage="refusal")
def test_a_built_in_variant_cannot_be_replaced() -> None:
    """Not even by a class of the same name."""
    impostor = type("LoRA", (ll.LoRA,), {"__qualname__": "LoRA", "__module__": "elsewhere"})
    try:
        with assert_refuses(ll.ConfigError, "the name 'lora' belongs to", claim="a second lora"):
            ll.register(impostor)
    finally:
        ll.VARIANTS["lora"] = ll.LoRA  # whatever was registered must not judge the other properties
