"""The claims made of drawn models, on the weights and the activations of a real encoder, in all 36 layers of
it.
"""

import copy
import gc
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from properties.judging.agreement import (
    assert_agrees,
    assert_first_gradients,
    assert_gives_the_base,
    assert_init,
    assert_loaded,
    assert_only_adapters_have_gradients,
    round_trip,
)
from properties.judging.assertions import (
    assert_all_identical,
    assert_close,
    assert_equal,
    assert_holds,
    assert_identical,
)
from properties.judging.claim import claim
from properties.judging.expected import Expected, expected
from properties.judging.snapshot import base_tensors
from properties.judging.tolerance import Bounded
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach, train
from properties.subjects.layer_runs import Layer, run_layers
from properties.subjects.pretrained import POOLER, PretrainedCase, encoder, pretrained_case

LAYERS = 36
FEW_PROBES = 4
# A case holds a whole encoder: all claims of one variant before the next one's.
VARIANT_BY_VARIANT = True
BY_ORACLE: dict[str, Any] = {"needs": ("minilm", "transformers", "oracle"), "slow": True}
PLAIN: dict[str, Any] = {"needs": ("minilm", "transformers"), "slow": True}


def cases(variant: str) -> st.SearchStrategy[PretrainedCase]:
    """The one case."""
    return st.just(pretrained_case(variant))


@lru_cache(maxsize=1)
def attached(case: PretrainedCase) -> Attached:
    """The encoder right after attach. Shared by the claims: they take a copy."""
    # A model that carries adapters is a reference cycle, and the last variant's copies are a gigabyte.
    gc.collect()
    one: Any = case
    fresh = attach(one, exclude_names=(POOLER,))
    found = f"attach adapted {len(fresh.initial)} layers, wanted {LAYERS}"
    assert_holds(len(fresh.initial) == LAYERS, claim=found)
    return fresh


def fresh(case: PretrainedCase) -> Attached:
    """At init."""
    shared = attached(case)
    return replace(shared, model=copy.deepcopy(shared.model))


def trained(case: PretrainedCase) -> Attached:
    """With the parameters moved away from init."""
    moved = fresh(case)
    train(moved)
    return moved


@lru_cache(maxsize=1)
def seen(case: PretrainedCase, state: Callable[[PretrainedCase], Attached]) -> list[tuple[Layer, Expected]]:
    """Every layer after one forward and backward pass in this state, and what the oracle says of it."""
    return [(layer, expected_here(layer)) for layer in run_layers(state(case), case.run)]


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


@claim(cases, stage="init", needs=("minilm", "transformers", "identity"), slow=True)
def test_identity_at_init_on_real_weights(case: PretrainedCase) -> None:
    """last_hidden_state is exactly the encoder's where the variant declares it so; else each layer's output,
    to rounding.
    """
    if subject.identity(case) == "exact":
        what = "last_hidden_state at init"
        assert_equal(case.run(fresh(case).model), case.run(encoder()[0]), what=what, like="the encoder's")
        return
    for layer, wanted in seen(case, fresh):
        assert_gives_the_base(layer, wanted.y)


@claim(cases, stage="init", **BY_ORACLE)
def test_init_agrees_with_the_oracle_on_real_weights(case: PretrainedCase) -> None:
    """Subspaces, norms, ranks and ranges of what init put into the tensors; from the real inputs where it
    looks at inputs.
    """
    shared = attached(case)
    inputs = calibration_inputs(case, list(shared.initial))
    for name, tensors in shared.initial.items():
        assert_init(case, name, shared.weight(name), tensors, inputs.get(name))


@claim(cases, stage="gradient", **PLAIN)
def test_first_gradients_are_as_declared_on_real_weights(case: PretrainedCase) -> None:
    """Each parameter's first gradient is exactly zero or truly not, as its ParamSpec says; the base gets
    none.
    """
    started = fresh(case)
    assert_first_gradients(started, run_layers(started, case.run))
    assert_only_adapters_have_gradients(started.model)


@claim(cases, stage="gradient", **BY_ORACLE)
def test_first_gradients_agree_with_the_oracle_on_real_weights(case: PretrainedCase) -> None:
    """At init, values of every parameter's gradient and of the input's."""
    for layer, wanted in seen(case, fresh):
        assert_agrees(layer, wanted, output=False)


@claim(cases, stage="gradient", **BY_ORACLE)
def test_gradients_agree_with_the_oracle_on_real_weights(case: PretrainedCase) -> None:
    """Away from init, values of every parameter's gradient and of the input's."""
    for layer, wanted in seen(case, trained):
        assert_agrees(layer, wanted, output=False)


@claim(cases, stage="forward", **BY_ORACLE)
def test_forward_agrees_with_the_oracle_on_real_weights(case: PretrainedCase) -> None:
    """Away from init, in every layer at the input that it got there."""
    for layer, wanted in seen(case, trained):
        assert_close(layer.y, wanted.y, what=f"the output of layer {layer.name}", like="the oracle's")


@claim(cases, stage="load", **PLAIN)
def test_save_load_keeps_every_bit_on_real_weights(case: PretrainedCase) -> None:
    """Away from init, onto a fresh encoder: every tensor, last_hidden_state, and the base."""
    moved = trained(case)
    loaded = round_trip(moved.model, case.build())
    assert_loaded(loaded, subject.tensors(moved.model))
    what = "last_hidden_state after load"
    assert_identical(case.run(loaded), case.run(moved.model), what=what, like="what it was before save")
    assert_all_identical(base_tensors(loaded), moved.base, what="the base after load", like="as before")


@claim(cases, stage="attach", **PLAIN)
def test_base_keeps_every_bit_on_real_weights(case: PretrainedCase) -> None:
    """After attach, a backward pass, training and detach; and then last_hidden_state is the encoder's own
    again.
    """
    wanted = {name: tensor.detach() for name, tensor in encoder()[0].state_dict().items()}
    model = attached(case).model
    assert_all_identical(base_tensors(model), wanted, what="the base after attach", like="as before")
    moved = trained(case)
    run_layers(moved, case.run)
    assert_all_identical(base_tensors(moved.model), wanted, what="the base after training", like="as before")
    subject.detach(moved.model)
    assert_all_identical(base_tensors(moved.model), wanted, what="the base after detach", like="as before")
    what = "last_hidden_state after detach"
    assert_identical(case.run(moved.model), case.run(encoder()[0]), what=what, like="the encoder's")
