"""The base is more than its parameters: statistics, masks, codes, scales. Whatever the function depends on is
frozen and in the fingerprint, or refused.
"""

import copy
import warnings
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.files import refused, rewrite, saved, scratch_file
from properties.judging.fixed_models import Stack, on, simple_config, x
from properties.judging.own_bound import own_output
from properties.judging.snapshot import assert_as_before, snapshot_of
from properties.subjects.attaching import seed_inits
from strategies import gaussian
from strategies.bases import CACHING, STANDING, WRITING, Base, moving_bases, standing_bases


def adapt(case: Base, model: nn.Module) -> ll.Adapter:
    """The variant's simplest adapter on the case's layers, from its own batches."""
    seed_inits(0)
    data = [case.batch(1), case.batch(2)] if ll.VARIANTS[case.variant].needs_calibration else None
    return ll.attach(model, simple_config(case.variant, target_names=case.names()), data)


def train(adapter: ll.Adapter, case: Base, parameters: Any = None) -> None:
    """A few steps in the modes that the model has, of an optimiser on these parameters."""
    optimiser = torch.optim.AdamW(adapter.parameters() if parameters is None else parameters, lr=0.05)
    for seed in range(3):
        adapter.model(case.batch(seed)).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()


@claim(moving_bases, stage="training", subject="lora_lite", share=0.3)
def test_what_moves_in_training_stays_while_an_adapter_is_on(case: Base) -> None:
    """Norms and the like compute as in eval mode, whatever train() says: a file is whole without their
    statistics, and detach gives the base back, its flags too.
    """
    model = case.build()
    fresh, before = copy.deepcopy(model).eval(), snapshot_of(model)
    adapter = adapt(case, model)
    model.train(model.training)
    with assert_runs(f"training beside {case.beside}"):
        train(adapter, case)
    with saved(model) as path, assert_runs("load onto the same base"):
        ll.load(fresh, path)
    model.eval()
    what = f"the output of a base with {case.beside}, after load,"
    assert_identical(fresh(case.batch()), model(case.batch()), what=what, like="that of the model saved")
    for name, module in model.named_modules():
        module.training = before["training"].get(name, False)
    ll.detach(model)
    assert_as_before(model, before, claim=f"after training beside {case.beside} and detach")


@claim(moving_bases, stage="attach", subject="lora_lite", share=0.2)
def test_what_moves_again_after_detach(case: Base) -> None:
    """The base trains as it would have without."""
    model, plain = case.build(), case.build()
    adapt(case, model)
    with assert_runs(f"a forward in training mode beside {case.beside}"):
        model(case.batch())
    ll.detach(model)
    for one in (model, plain):
        one(case.batch())
    what = f"the buffers of a base with {case.beside}, one step after detach,"
    now, wanted = dict(model.named_buffers()), dict(plain.named_buffers())
    assert_all_identical(now, wanted, what=what, like="as in the plain base")


@claim(st.just, stage="training", subject="lora_lite")
def test_a_base_that_writes_its_buffers_is_refused(variant: str) -> None:
    """By the module and the buffer, at the first forward in training mode: no file would have it. In eval
    mode, and in what no state dict has, it is a cache.
    """
    for beside in WRITING:
        adapter = adapt(case := Base(variant, beside), model := case.build())
        match = r"^1(\.norm)?: \w+ writes its buffer (seen|num_batches_tracked) at every forward in training"
        with assert_refuses(ll.BaseWeightError, match, claim=f"training beside {beside}"):
            train(adapter, case)
        hooks = dict(model._forward_pre_hooks)
        model._forward_pre_hooks.clear()
        with assert_runs(f"a forward beside {beside} whose hooks the user has cleared"):
            model(case.batch())
        model._forward_pre_hooks.update(hooks)
        model[1].eval()
        with assert_runs(f"training beside {beside}, in eval mode,"):
            train(adapter, case)
    for beside in CACHING:
        adapter = adapt(case := Base(variant, beside), model := case.build())
        with assert_runs(f"training and evaluating beside {beside}"):
            train(adapter, case)
            model.eval()(case.batch())


@claim(standing_bases, stage="load", subject="lora_lite", share=0.5)
def test_a_base_that_differs_in_a_buffer_is_another_one(case: Base) -> None:
    """Each persistent one, and what a module keeps as extra state; what no state dict has may differ."""
    adapt(case, model := case.build().eval())
    with saved(model) as path:
        for name in STANDING[case.beside][1]:
            other: Any = case.build().eval()
            if name:
                held = dict(other[1].named_buffers())[name]
                held.view(-1)[0] += 1
            else:
                other[1].extra = {"shift": torch.ones(4), "times": 2}
            match = rf"1\.{name or '_extra_state'}: found .*, the file says"
            refused(other, path, ll.BaseMismatchError, match, f"load onto another {name or 'state'}")
        same: Any = case.build().eval()
        if case.beside == "a scale":
            same[1].cache += 1
        with assert_runs("load onto the same base"):
            ll.load(same, path)
    what = f"the output of a base with {case.beside}, after load,"
    assert_identical(same(case.batch()), model(case.batch()), what=what, like="that of the model saved")


@claim(stage="load", subject="lora_lite")
def test_a_file_of_the_format_before_loads_and_says_what_was_not_compared() -> None:
    """It has no buffers; without any in the model there is nothing to say. Parameters are compared."""
    for beside, told in (("statistics", 1), ("codes", 1), ("", 0)):
        case = Base("lora", beside or "statistics")
        base = case.build() if beside else nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        model = copy.deepcopy(base)
        ll.attach(model, ll.LoRAConfig(r=2, target_names=("0", "2")))
        with saved(model) as path:
            rewrite(path, _into_format_2)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ll.load(fresh := copy.deepcopy(base), path)
            found = [str(one.message) for one in caught if "format 2 tells nothing" in str(one.message)]
            assert_holds(len(found) == told, claim=f"load of format 2 beside {beside!r} warned {found}")
            assert_holds(bool(ll.adapters_of(fresh)), claim="load of format 2 attached nothing")
            with torch.no_grad():
                base[2].weight.neg_()  # type: ignore[operator]  # a tensor
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                match = r"2\.weight: found"
                refused(base, path, ll.BaseMismatchError, match, "load of format 2 onto another base")


def _into_format_2(tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """What the version before wrote of the same adapter."""
    from lora_lite.fingerprint import digest_of, digest_of_all

    header["format"] = 2
    gone = ("running", "num_batches", "codes")
    header["base"] = {n: told for n, told in header["base"].items() if not n.split(".")[-1].startswith(gone)}
    header["digest"] = digest_of_all(header, {name: digest_of(tensor) for name, tensor in tensors.items()})


@claim(st.just, stage="training", subject="lora_lite")
def test_an_optimiser_of_all_parameters_leaves_the_base(variant: str) -> None:
    """Gradients that were there before attach would move it, and weight decay with them."""
    model = Stack()
    model(x(3)).square().sum().backward()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    adapter = on(model, variant)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        model(x(3)).square().sum().backward()
        optimiser.step()
    assert_holds(bool(list(adapter.parameters())), claim=f"{adapter} has no parameter")
    now = dict(model.named_parameters())
    what = "the base after steps of an optimiser of all parameters"
    assert_all_identical({name: now[name] for name in before}, before, what=what, like="as before")


@claim(st.just, stage="init", needs=("identity",), subject="lora_lite")
def test_a_weight_that_a_hook_computes_is_read_as_it_computes_it(variant: str) -> None:
    """Under the older spectral norm, before any forward, where it is not the first hook: a fresh adapter
    changes nothing.
    """
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    layer.register_forward_pre_hook(lambda layer, args: None)
    model: Any = nn.Sequential(nn.utils.spectral_norm(layer)).eval()
    given = gaussian(0, "x", (3, 4))
    wanted = copy.deepcopy(model)(given).detach()
    ll.attach(model, simple_config(variant), [given] if ll.VARIANTS[variant].needs_calibration else None)
    with assert_runs("a forward under the older spectral norm"):
        got, bound = model(given), 2 * own_output(model, given).error
    assert_within(got, wanted, bound, what="the output of a fresh adapter", like="the base's")


@claim(st.just, stage="attach", subject="lora_lite")
def test_reading_a_parametrised_weight_writes_nothing(variant: str) -> None:
    """attach, save and detach on spectral_norm in training mode, which is computed whenever it is read."""
    case = Base(variant, "spectral norm", adapts=True)
    before = snapshot_of(model := case.build())
    adapt(case, model)
    with scratch_file() as path:
        ll.save(model, path)
    ll.detach(model)
    assert_as_before(model, before, claim="attach, save and detach beside spectral_norm")


class Observed(nn.Module):
    """A quantiser that follows the range of what it is given, in any mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("observer_enabled", torch.tensor([1], dtype=torch.uint8))


@claim(stage="refusal", subject="lora_lite")
def test_a_base_whose_quantisers_observe_is_refused() -> None:
    """By the module's name, until they are told to stop."""
    model = nn.Sequential(nn.Linear(4, 4), observed := Observed())
    match = "^1: Observed changes its range"
    with assert_refuses(ll.BaseWeightError, match, claim="attach beside a quantiser that observes"):
        ll.attach(model, ll.LoRAConfig(r=2))
    observed.observer_enabled.zero_()  # type: ignore[operator]  # a tensor
    ll.attach(model, ll.LoRAConfig(r=2))


@claim(st.just, stage="merge", subject="lora_lite")
def test_views_of_one_flat_buffer_are_merged(variant: str) -> None:
    """As engines lay parameters out: no number is another layer's, and the function stays."""
    model = Stack()
    parameters = list(model.parameters())
    flat = torch.cat([parameter.detach().flatten() for parameter in parameters])
    pieces = torch.split(flat, [parameter.numel() for parameter in parameters])
    for parameter, piece in zip(parameters, pieces, strict=True):
        parameter.data = piece.view(parameter.shape)
    adapter = on(model, variant, target_names=("first", "second"))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.1)
    wanted, bound = model(x(3)).detach(), 2 * own_output(model, x(3)).error
    try:
        ll.merge(model)
    except ll.LoraLiteError as error:
        raise Violation(f"merge into views of one flat buffer is refused: {error}") from error
    what = "the output after a merge into views of one flat buffer"
    assert_within(model(x(3)), wanted, bound, what=what, like="that before")


@claim(stage="merge", subject="lora_lite")
def test_merge_into_what_a_buffer_shares_is_refused() -> None:
    """A buffer over the same numbers would change with them, be it over the last of them alone."""
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    model[1].register_buffer("tied", model[0].weight.detach()[-1, -1:])
    ll.attach(model, ll.LoRAConfig(r=2))
    match = "0: merge: its weight or bias is shared with 1"
    with assert_refuses(ll.BaseWeightError, match, claim="merge into a weight that a buffer shares"):
        ll.merge(model)
