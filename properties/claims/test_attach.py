"""What attach leaves on a model and detach takes off: hooks, parameters, flags, and the handle that lists
them.
"""

import copy
import dataclasses
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    assert_all_identical,
    assert_holds,
    assert_identical,
    assert_nonzero,
    assert_refuses,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.expected import adapts_input
from properties.judging.files import scratch_file
from properties.judging.fixed_models import (
    NO_HOOK,
    Stack,
    assert_learning,
    assert_trains,
    blocked,
    moved,
    on,
    simple_config,
    x,
)
from properties.judging.snapshot import assert_as_before, hooks_of, state_of
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import Attached, attach, train
from properties.subjects.observation import default_run
from strategies import AdaptedModel, adapted_models, trained_models
from strategies.options import BUILT_IN
from strategies.tensors import device


def hooked(model: nn.Module) -> list[str]:
    """The modules with hooks, once for each."""
    return sorted(name for name, hooks in hooks_of(model).items() for _ in hooks)


@claim(trained_models, stage="forward", share=0.3)
def test_train_and_eval_mode_give_the_same_output(case: AdaptedModel) -> None:
    """And so do recorded and unrecorded passes: no variant here has dropout."""
    made = attach(case)
    wanted = default_run(case)(made.model.train())
    assert_identical(
        default_run(case)(made.model.eval()),
        wanted,
        what="the output in eval mode",
        like="that in train mode",
    )
    for unrecorded in (torch.no_grad(), torch.inference_mode()):
        with unrecorded:
            assert_identical(
                default_run(case)(made.model),
                wanted.detach(),
                what=f"the output under {unrecorded}",
                like="the same",
            )


@claim(trained_models, stage="attach", share=0.3, capability="deepcopy")
def test_a_deep_copy_is_independent(case: AdaptedModel) -> None:
    """Bit-equal at first; trained on, it leaves the original alone and gives what its own parameters say."""
    made = attach(case)
    run = default_run(case)
    before = run(made.model).detach()
    twin = copy.deepcopy(made.model)
    assert_identical(run(twin), before, what="the copy's output", like="the original's")
    train(Attached(case, twin, made.base, made.initial))
    after = run(twin).detach()
    assert_identical(
        run(made.model),
        before,
        what="the output of the original after its copy was trained",
        like="as before",
    )
    made.model.load_state_dict(twin.state_dict())
    assert_identical(
        run(made.model),
        after,
        what="the output of the original, given the copy's parameters,",
        like="the copy's",
    )
    subject.detach(twin)
    assert_identical(
        run(made.model),
        after,
        what="the output of the original after its copy was detached",
        like="as before",
    )


@claim(trained_models, stage="save", share=0.3)
def test_a_state_dict_carries_the_whole_adapted_model(case: AdaptedModel) -> None:
    """Into another base with a fresh adapter of the same config: bit-equal output."""
    made = attach(case)
    other = attach(dataclasses.replace(case, trained=False))
    with torch.no_grad():
        for tensor in other.model.state_dict().values():
            tensor.zero_()
    other.model.load_state_dict(made.model.state_dict())
    run = default_run(case)
    assert_identical(
        run(other.model), run(made.model).detach(), what="the output after a state dict round trip"
    )


@claim(adapted_models, stage="attach", share=0.3)
def test_the_handle_lists_what_is_trainable(case: AdaptedModel) -> None:
    """Targets, and under their full names exactly the parameters that require a gradient, each its own
    tensor.
    """
    made = attach(case)
    (adapter,) = ll.adapters_of(made.model)
    assert_trains(made.model, adapter)
    named = dict(adapter.named_parameters())
    listed = [id(p) for p in adapter.parameters()]
    assert_holds(
        listed == [id(p) for p in named.values()],
        claim=f"{len(listed)} parameters listed, {len(named)} names",
    )
    assert_holds(len(listed) == len(set(listed)), claim="a parameter is listed twice")
    tensors = subject.tensors(made.model)
    assert_holds(
        adapter.targets == tuple(tensors), claim=f"targets {adapter.targets}, adapted {tuple(tensors)}"
    )
    wanted = {f"{t}.{n}" for t, own in tensors.items() for n, p in own.items() if isinstance(p, nn.Parameter)}
    assert_holds(set(named) == wanted, claim=f"named parameters {sorted(named)}, wanted {sorted(wanted)}")
    frozen = {
        f"{t}.{n}" for t, own in tensors.items() for n, b in own.items() if not isinstance(b, nn.Parameter)
    }
    buffers = [name for name, _ in adapter.named_buffers()]
    assert_holds(
        sorted(buffers) == sorted(frozen), claim=f"named buffers {sorted(buffers)}, wanted {sorted(frozen)}"
    )
    assert_holds(
        hooked(made.model) == sorted(tensors), claim=f"hooks on {hooked(made.model)}, wanted one a target"
    )
    modes = {
        t: (m.training, adapter.layers()[t].training) for t in tensors for m in [made.model.get_submodule(t)]
    }
    assert_holds(
        all(a == b for a, b in modes.values()), claim=f"training flags of layers and adapters are {modes}"
    )


@claim(stage="attach")
def test_an_overlap_is_refused_and_the_first_adapter_untouched() -> None:
    for first in BUILT_IN:
        model = Stack()
        adapter = moved(on(model, first, target_names=("first", "second")))
        output, before = model(x(3)).detach(), state_of(model)
        with assert_refuses(
            ll.TargetError, "second: 2 of 3 .* already carry an adapter", claim=f"lora over {first}"
        ):
            ll.attach(model, simple_config("lora"))
        assert_as_before(model, before, claim=f"{first} after a refused overlap")
        assert_identical(model(x(3)), output, what=f"the output with {first} after a refused overlap")
        assert_trains(model, adapter)


@claim(stage="attach")
def test_two_adapters_work_and_train_side_by_side() -> None:
    """On layers of their own; the second freezes neither the first nor its own, and the output uses both."""
    for second in BUILT_IN:
        model = Stack()
        handles = [moved(on(model, "lora", target_names="first"))]
        alone = model(x(3)).detach()
        handles.append(moved(on(model, second, target_names=("second", "third")), seed=1))
        assert_trains(model, *handles)
        output = model(x(3))
        assert_nonzero(output - alone, what=f"what {second} adds to lora")
        output.square().sum().backward()
        for adapter in handles:
            assert_learning(adapter)
        handles[1].detach()
        assert_identical(model(x(3)), alone, what=f"lora after {second} was detached", like="lora alone")


@claim(stage="detach")
def test_detaching_one_adapter_leaves_the_other() -> None:
    """The base stays frozen until the last one goes; then each flag is as the user had it."""
    for gone in (0, 1):
        model = Stack()
        model.norm.requires_grad_(False)
        model.first.bias.requires_grad_(False)
        before = state_of(model)
        handles = [on(model, "lora", target_names="first"), on(model, "hra", target_names="second")]
        handles[gone].detach()
        left = handles[1 - gone]
        assert_holds(
            hooked(model) == list(left.targets), claim=f"hooks left on {hooked(model)}, wanted that of {left}"
        )
        assert_trains(model, left)
        left.detach()
        assert_as_before(model, before, claim="after the last detach")


@claim(stage="detach")
def test_what_the_user_thaws_meanwhile_stays_thawed() -> None:
    """Detach gives back what attach took, and leaves alone what was frozen before and is not now."""
    (model := Stack()).norm.requires_grad_(False)
    on(model, "lora")
    model.norm.requires_grad_(True)
    ll.detach(model)
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert_holds(not frozen, claim=f"{frozen} are frozen after detach, and the user had thawed them")


@claim(stage="attach")
def test_every_attach_freezes_the_whole_base() -> None:
    """What the user thawed after the first one too."""
    model = Stack()
    first = on(model, "lora", target_names="first")
    model.norm.requires_grad_(True)
    assert_trains(model, first, on(model, "hra", target_names="third"))


@claim(st.just, stage="attach")
def test_a_cast_of_the_model_reaches_every_tensor(variant: str) -> None:
    """Frozen ones too, and the state dict has them all."""
    adapter = on(model := Stack(), variant)
    model.double()
    declared = [
        (target, layer, name)
        for target, layer in adapter.layers().items()
        for name in layer.specs(layer.shape, layer.config)
    ]
    left = [
        f"{target}.{name}" for target, layer, name in declared if getattr(layer, name).dtype != torch.float64
    ]
    assert_holds(not left, claim=f"after model.double() {left} are not")
    missing = {f"{target}.lora_lite.{name}" for target, _, name in declared} - set(model.state_dict())
    assert_holds(not missing, claim=f"{sorted(missing)} are not in the state dict")
    assert_holds(
        bool(torch.isfinite(model(x(3).double())).all()),
        claim="the output of a model that was cast is finite",
    )


@claim(stage="detach")
def test_detach_without_an_adapter_is_refused() -> None:
    before = state_of(model := Stack())
    with assert_refuses(
        ll.NotAttachedError, "This Stack carries no adapter", claim="detach of a plain model"
    ):
        ll.detach(model)
    handles = [on(model, "lora", target_names="first"), on(model, "ia3", target_names="second")]
    handles[0].detach()
    for call in (handles[0].detach, handles[0].layers, lambda: list(handles[0].parameters())):
        with assert_refuses(
            ll.NotAttachedError, "lora adapter is no longer attached", claim="a handle after detach"
        ):
            call()
    moved(on(model, "hra", target_names="third"))
    ll.detach(model)
    assert_as_before(model, before, claim="detach of the third")
    with assert_refuses(
        ll.TargetError, "Found Adapter.*Use the handle's own detach", claim="ll.detach(handle)"
    ):
        ll.detach(handles[0])  # type: ignore[arg-type]  # what is tried
    for call in (lambda: ll.detach(model), lambda: ll.merge(model)):
        with assert_refuses(
            ll.NotAttachedError, "This Stack carries no adapter", claim="detach or merge after detach"
        ):
            call()


@claim(st.just, stage="forward")
def test_keyword_calls_reach_the_adapter(variant: str) -> None:
    moved(on(model := Stack(), variant))
    for name in ("first", "second", "third"):
        layer: Any = model.get_submodule(name)
        wanted = layer(x(3)).detach()
        plain = torch.nn.functional.linear(x(3), layer.weight, layer.bias)
        assert_nonzero(wanted - plain, what=f"what the moved adapter on {name} adds")
        assert_identical(layer(input=x(3)), wanted, what=f"{name}(input=x)", like=f"{name}(x)")


@claim(st.just, stage="forward")
def test_batches_of_any_shape_are_taken_row_by_row(variant: str) -> None:
    """Empty, none, one and four leading dimensions; the same numbers as in one flat batch."""
    layer: Any = nn.Sequential(Stack().first)
    moved(on(layer, variant, dtype=torch.float64))
    layer.double()
    for leading in ((), (1,), (2, 1, 3), (1, 2, 2, 2), (0,), (2, 0)):
        given = x(*leading).double()
        rows = layer(given.reshape(-1, 4)).detach()
        got = layer(given).detach()
        assert_holds(got.shape == given.shape, claim=f"{tuple(given.shape)} gives {tuple(got.shape)}")
        # One kernel or another, a float64 rounding apart.
        size = rows.abs().amax() if rows.numel() else 0.0
        claim = f"a batch {leading} gives what its rows give"
        assert_within(got.reshape(-1, 4), rows, claim_bound(size, torch.float64), what=claim)


@claim(stage="forward")
def test_an_adapter_computes_in_its_own_dtype_under_autocast() -> None:
    """x = 1 + 2⁻¹⁰ is 1 in bfloat16: what depends on the difference must not vanish."""
    given = torch.tensor([[1 + 2**-10, 1.0, 0, 0]])
    model = Stack()
    on(model, "lora", target_names="first")
    with torch.no_grad():
        *_, A, B = (parameter.zero_() for parameter in model.first.parameters())
        A[0, 0], A[0, 1], B[:, 0] = 1, -1, 2.0**10
    with torch.autocast(device().type, dtype=torch.bfloat16):
        got = model.first(given)
    assert_identical(
        got, torch.full((1, 4), 8.0, dtype=torch.bfloat16), what="lora at alpha / r = 8 under autocast"
    )
    for variant in filter(adapts_input, BUILT_IN):
        model = Stack()
        seen: list[Tensor] = []
        moved(on(model, variant, target_names="first"))
        model.first.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0].detach()))
        model.first(given)
        with torch.autocast(device().type, dtype=torch.bfloat16):
            model.first(given)
        assert_identical(
            seen[1], seen[0], what=f"{variant}: the adapted input under autocast", like="that without"
        )


@claim(st.just, stage="forward")
def test_the_output_keeps_the_base_dtype(variant: str) -> None:
    """Whatever the adapter's; the adapter's own tensors have the config's dtype, float32 by default, and not
    the base's.
    """
    for base, dtype in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float64, torch.float32),
    ):
        model = nn.Sequential(nn.Linear(4, 4, dtype=base))
        data = [x(9).to(base)] if ll.VARIANTS[variant].needs_calibration else None
        ll.attach(model, simple_config(variant, dtype=dtype), data)
        own = {tensor.dtype for tensors in subject.tensors(model).values() for tensor in tensors.values()}
        assert_holds(own == {dtype}, claim=f"{variant} on {base}: tensors in {own}, wanted {dtype}")
        got = model(x(3).to(base)).dtype
        assert_holds(got == base, claim=f"{variant} in {dtype} on {base}: output in {got}")


@claim(stage="attach")
def test_a_failure_while_hanging_leaves_the_model_as_before() -> None:
    """The third layer takes no hook: the first two lose theirs, and no flag changes."""
    for variant in ("lora", "hra"):  # one hook after the layer, one before it
        model = Stack()
        model.norm.requires_grad_(False)
        before = state_of(model)
        with blocked(model.third), assert_refuses(*NO_HOOK, claim=f"{variant} on a layer that takes no hook"):
            on(model, variant)
        assert_as_before(model, before, claim=f"{variant} after a failed attach")


@claim(st.just, stage="refusal")
def test_a_base_that_is_not_finite_is_refused_by_the_layer(variant: str) -> None:
    """Its weight or its bias; a layer that is not adapted is nobody's business."""
    for name in ("weight", "bias"):
        model = Stack()
        with torch.no_grad():
            model.second.get_parameter(name)[..., 2:] = torch.tensor([torch.nan, -torch.inf])
        count = 8 if name == "weight" else 2
        match = f"^second: the base {name} holds {count} NaN or Inf"
        with assert_refuses(ll.BaseWeightError, match, claim=f"{variant} on NaN in a {name}"):
            ll.attach(model, simple_config(variant, exclude_names="third"))
        good = Stack()
        on(good, variant)
        with scratch_file() as path:
            ll.save(good, path)
            with assert_refuses(ll.BaseWeightError, match, claim=f"{variant} loaded onto NaN in a {name}"):
                ll.load(model, path, check_base=False)
        if not ll.VARIANTS[variant].needs_calibration:
            on(model, variant, target_names=("first", "third"))


@claim(stage="attach")
def test_an_adapter_is_built_where_its_layer_is() -> None:
    model: Any = nn.ModuleDict({"here": nn.Linear(4, 4), "there": nn.Linear(4, 4, device="meta")})
    adapter = ll.attach(model, ll.LoRAConfig(r=1))
    devices = [parameter.device.type for parameter in adapter.parameters()]
    here = device().type
    wanted = [here, here, "meta", "meta"]
    assert_holds(
        devices == wanted, claim=f"one layer on {here}, the other on meta, found parameters on {devices}"
    )


@claim(stage="attach")
def test_names_that_look_like_an_adapters_are_the_bases() -> None:
    """A module called lora_mlp and parameters called lora_…: frozen, given back, never listed as the
    adapter's.
    """
    model: Any = Stack()
    model.lora_mlp = nn.Linear(4, 4)
    model.lora_scale = model.third.lora_A = nn.Parameter(torch.ones(4))
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapter = moved(on(model, "lora"))
    listed = {name for name, _ in adapter.named_parameters()}
    own = {f"{target}.{name}" for target in ("first", "second", "third", "lora_mlp") for name in ("A", "B")}
    assert_holds(listed == own, claim=f"the handle lists {sorted(listed)}, wanted {sorted(own)}")
    assert_trains(model, adapter)
    ll.detach(model)
    assert_all_identical(
        dict(model.state_dict()),
        base,
        what="a base with names like an adapter's, after detach,",
        like="as before",
    )
