"""The claims made of drawn models, on the weights and the activations of a real encoder, in all 36 layers of
it.
"""

import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import cast

import pytest
import torch
from torch import Tensor

from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_close,
    assert_equal,
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_within,
    assert_zero,
    measuring,
)
from properties.judging.claim import reported
from properties.judging.files import scratch_file
from properties.judging.snapshot import base_tensors
from properties.judging.tolerance import Bounded, claim_bound, coarser
from properties.oracles import ORACLES
from properties.subjects.lora_lite import adapter_dtype, implementation
from properties.subjects.observe import (
    AnyCase,
    Expected,
    Layer,
    Subject,
    expected,
    has_oracle,
    observe,
    options_of,
    subject,
    train,
)
from properties.subjects.pretrained import POOLER, PretrainedCase, encoder, pretrained_case
from strategies.recipes import pasteable

LAYERS = 36
FEW_PROBES = 4


# One variant at a time: a subject holds a whole encoder.
@lru_cache(maxsize=1)
def attached(variant: str) -> Subject:
    """The encoder right after attach. Shared by the claims: they take a copy."""
    # A model that carries adapters is a reference cycle, and the last variant's copies are a gigabyte.
    gc.collect()
    made = subject(cast(AnyCase, pretrained_case(variant)), exclude_names=(POOLER,))
    assert_holds(
        len(made.initial) == LAYERS, claim=f"attach adapted {len(made.initial)} layers, wanted {LAYERS}"
    )
    return made


def fresh(variant: str) -> Subject:
    """At init."""
    made = attached(variant)
    return replace(made, model=copy.deepcopy(made.model))


def trained(variant: str) -> Subject:
    """With the parameters moved away from init."""
    made = fresh(variant)
    train(made)
    return made


@lru_cache(maxsize=1)
def seen(variant: str, state: Callable[[str], Subject]) -> list[tuple[Layer, Expected]]:
    """Every layer after one forward and backward pass in this state, and what the oracle says of it."""
    made = state(variant)
    return [(layer, expected_here(layer)) for layer in observe(made, case_of(made).run)]


def case_of(made: Subject) -> PretrainedCase:
    return cast(PretrainedCase, made.case)


def expected_here(layer: Layer) -> Expected:
    """expected(layer), from few probes where those already clear the layer: a third of the time.

    Few probes may acquit but not convict. In 10⁶ entries some scatter of four probes comes out forty times
    too small by chance (chi-square with four degrees of freedom), one of twelve five times, which is within
    what the error model allows for.
    """
    few = expected(layer, probes=FEW_PROBES)
    pairs = [
        (layer.y, few.y),
        (layer.dx, few.dx),
        *((g, few.gradients[name]) for name, g in layer.gradients.items()),
    ]
    return few if all(clears(got, wanted) for got, wanted in pairs) else expected(layer)


def clears(got: Tensor, wanted: Bounded) -> bool:
    """No entry is off by more than three quarters of its bound."""
    off = (got.detach().double() - wanted.value.reshape(got.shape)).abs()
    return bool((off <= 0.75 * wanted.error.reshape(got.shape)).all())


def identity_at_init(variant: str) -> None:
    """last_hidden_state is exactly the encoder's where the variant declares it so; else each layer's output,
    to rounding.
    """
    made = fresh(variant)
    case = case_of(made)
    if implementation.identity(case) == "exact":
        assert_equal(
            case.run(made.model), case.run(encoder()[0]), claim="last_hidden_state at init is the encoder's"
        )
        return
    for layer, wanted in seen(variant, fresh):
        base = torch.nn.functional.linear(layer.x, layer.weight, layer.bias).detach().double()
        bound = wanted.y.error.reshape(base.shape)
        assert_close(layer.y, Bounded(base, bound), claim=f"the output of {layer.name} at init is the base's")


def init_agrees_with_the_oracle(variant: str) -> None:
    """Subspaces, norms, ranks and ranges of what init put into the tensors; from the real inputs where it
    looks at inputs.
    """
    made = attached(variant)
    case = case_of(made)
    inputs = calibration_inputs(case, list(made.initial))
    dtype = coarser(adapter_dtype(case), torch.float32)
    for name, tensors in made.initial.items():
        W = made.base[f"{name}.weight"].double()
        p = {n: tensor.double() for n, tensor in tensors.items()}
        for claim in ORACLES[variant].init_claims(W, None, p, options_of(case), inputs.get(name)):
            bound = claim_bound(claim.magnitude, dtype)
            assert_within(claim.got, claim.wanted, bound, claim=f"init of {name}: {claim.name}", dtype=dtype)


def calibration_inputs(case: PretrainedCase, names: list[str]) -> dict[str, Tensor]:
    """What the encoder gives to these layers while it reads the calibration batches, (tokens, d_in); {} if
    there are none.
    """
    caught: dict[str, list[Tensor]] = {}
    model = case.build()
    for name in names:
        into = caught.setdefault(name, [])
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, into=into: into.append(args[0].flatten(0, -2))
        )
    with torch.no_grad():
        for batch in case.calibration() or ():
            model(**batch)
    return {name: torch.cat(batches).double() for name, batches in caught.items() if batches}


def first_gradients_are_as_declared(variant: str) -> None:
    """Each parameter's first gradient is exactly zero or truly not, as its ParamSpec says; the base gets
    none.
    """
    made = fresh(variant)
    declared = implementation.first_gradients(made.model)
    for layer in observe(made, case_of(made).run):
        for name, gradient in layer.gradients.items():
            claim = f"the first gradient of {layer.name}.{name} is {declared[layer.name][name]}"
            (assert_zero if declared[layer.name][name] == "zero" else assert_nonzero)(gradient, claim=claim)
    own = {
        id(tensor) for tensors in implementation.tensors(made.model).values() for tensor in tensors.values()
    }
    for name, parameter in made.model.named_parameters():
        got = parameter.grad is not None
        assert_holds(got == (id(parameter) in own), claim=f"{name} got {'a' if got else 'no'} gradient")


def first_gradients_agree_with_the_oracle(variant: str) -> None:
    """At init, values of every parameter's gradient and of the input's."""
    check_gradients(seen(variant, fresh))


def gradients_agree_with_the_oracle(variant: str) -> None:
    """Away from init, values of every parameter's gradient and of the input's."""
    check_gradients(seen(variant, trained))


def check_gradients(layers: list[tuple[Layer, Expected]]) -> None:
    for layer, wanted in layers:
        for name, gradient in layer.gradients.items():
            assert_close(
                gradient, wanted.gradients[name], claim=f"the gradient of {layer.name}.{name} is the oracle's"
            )
        assert_close(layer.dx, wanted.dx, claim=f"the gradient of {layer.name}'s input is the oracle's")


def forward_agrees_with_the_oracle(variant: str) -> None:
    """Away from init, in every layer at the input that it got there."""
    for layer, wanted in seen(variant, trained):
        assert_close(layer.y, wanted.y, claim=f"the output of {layer.name} is the oracle's")


def save_load_keeps_every_bit(variant: str) -> None:
    """Away from init, onto a fresh encoder: every tensor, last_hidden_state, and the base."""
    made = trained(variant)
    case = case_of(made)
    path = scratch_file()
    try:
        implementation.save(made.model, path)
        loaded = case.build()
        implementation.load(loaded, path)
    finally:
        path.unlink()
    saved, back = implementation.tensors(made.model), implementation.tensors(loaded)
    assert_holds(list(saved) == list(back), claim=f"loaded onto {list(back)}, saved from {list(saved)}")
    for name in saved:
        assert_all_identical(back[name], saved[name], claim=f"the loaded tensors of {name}")
    assert_identical(
        case.run(loaded), case.run(made.model), claim="last_hidden_state after load is what was saved"
    )
    assert_all_identical(base_tensors(loaded), made.base, claim="load changed the base")


def base_keeps_every_bit(variant: str) -> None:
    """After attach, a backward pass, training and detach; and then last_hidden_state is the encoder's own
    again.
    """
    made = trained(variant)
    case = case_of(made)
    wanted = {name: tensor.detach() for name, tensor in encoder()[0].state_dict().items()}
    assert_all_identical(base_tensors(attached(variant).model), wanted, claim="attach changed the base")
    observe(made, case.run)
    assert_all_identical(base_tensors(made.model), wanted, claim="training changed the base")
    implementation.detach(made.model)
    assert_all_identical(base_tensors(made.model), wanted, claim="detach changed the base")
    assert_identical(
        case.run(made.model), case.run(encoder()[0]), claim="last_hidden_state after detach is the encoder's"
    )


CLAIMS = (
    identity_at_init,
    init_agrees_with_the_oracle,
    first_gradients_are_as_declared,
    first_gradients_agree_with_the_oracle,
    gradients_agree_with_the_oracle,
    forward_agrees_with_the_oracle,
    save_load_keeps_every_bit,
    base_keeps_every_bit,
)


# The plugin has parametrised over the variants before this adds the claims: the order is variant by variant.
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_on_real_weights(variant: str, claim: Callable[[str], None], request: pytest.FixtureRequest) -> None:
    """Each claim of CLAIMS, in all layers."""
    with reported(f"{claim.__name__}_on_real_weights", variant, request) as meter, measuring(meter):
        try:
            claim(variant)
        except Violation as violation:
            raise Violation(f"{violation}\nrecipe   {pasteable(pretrained_case(variant))}") from None
        meter.examples = LAYERS


test_on_real_weights.applies = has_oracle  # type: ignore[attr-defined]  # read by the plugin when it parametrises
