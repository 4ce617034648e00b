"""What attach leaves: an identity, and tensors as the paper and the config have them."""

import math
from functools import partial

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.spec import kaiming_uniform
from properties.judging.agreement import assert_gives_the_base, assert_init
from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_equal,
    assert_finite,
    assert_holds,
    assert_within,
    claim_is_about,
)
from properties.judging.claim import claim
from properties.judging.tolerance import claim_bound
from properties.oracles import ORACLES
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, attach
from properties.subjects.layer_runs import default_run, run_layers
from properties.subjects.protocol import adapter_dtype
from strategies import AdaptedLayer, AdaptedModel, adapted_layers, adapted_models, gaussian
from strategies.layers import resized
from strategies.options import BUILT_IN

# Whose identity at init is exact by the papers.
EXACT = {"lora", "eva", "ia3", "ia3_ff", "antipasto"}
# Variants that draw from the random generator, and the rank at r = 4 of each tensor that they draw: hra's
# rows are pairs.
DRAWN = {"lora": {"A": 4}, "dora": {"A": 4}, "delora": {"A": 4, "B": 4}, "hra": {"U": 2}}


def check_identity(case: AnyCase) -> None:
    declared = subject.identity(case)
    found = f"the identity at init is declared {declared!r}, wanted 'exact', 'rounding' or 'none'"
    assert_holds(declared in ("exact", "rounding", "none"), claim=found)
    claim_is_about(declared != "none")
    plain = default_run(case)(case.build())
    attached = attach(case)
    if subject.identity(case) == "exact":
        assert_equal(default_run(case)(attached.model), plain, what="the output at init", like="the base's")
        return
    for layer in run_layers(attached):
        assert_gives_the_base(layer)


@claim(adapted_layers, stage="init", needs=("identity",))
def test_identity_at_init(case: AdaptedLayer) -> None:
    """Exactly where the variant declares it so, else to rounding; in every base and adapter dtype."""
    check_identity(case)


@claim(adapted_models, stage="init", needs=("transformers", "identity"), share=0.3)
def test_identity_at_init_of_a_whole_model(case: AdaptedModel) -> None:
    """Every adapted layer of a model gives what its base gives on the same input; exact variants give the
    same logits.
    """
    check_identity(case)


def check_init(case: AdaptedLayer) -> None:
    attached, batches = attach(case), case.calibration()
    (tensors,) = attached.initial.values()
    inputs = None if batches is None else torch.cat(batches).double()
    assert_init(case, "0", attached.weight("0"), tensors, inputs)


@claim(adapted_layers, stage="init", needs=("oracle",))
def test_init_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Subspaces, norms, ranks and ranges of what init put into the tensors."""
    check_init(case)


def large_layers(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Layers so large that random numbers fill their range."""

    return adapted_layers(variant, weights=("gaussian",)).map(partial(resized, d_in=32, d_out=24, r=8))


@claim(large_layers, stage="init", needs=("oracle", "rank"), share=0.3)
def test_init_of_a_large_layer_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """How far random numbers reach, and where their mean lies, shows in many of them."""
    check_init(case)


@claim(adapted_layers, stage="init", share=0.3, needs=("what is trained",))
def test_the_tensors_are_as_the_paper_and_the_config_say(case: AdaptedLayer) -> None:
    """Those that the paper trains require a gradient and no others do; all have the config's dtype; exact is
    exact.
    """
    attached = attach(case)
    (tensors,) = subject.tensors(attached.model).values()
    fixed: set[str] = {"rot"} if case.option.get("rotate_basis") == "none" else set()
    # Where one is missing, as a bias may be, the oracle has nothing to compute with.
    wanted = (ORACLES[case.variant].trained or frozenset()) & tensors.keys() - fixed
    live = {name for name, tensor in tensors.items() if tensor.requires_grad}
    found = f"{sorted(live)} of {case.variant} require a gradient, wanted {sorted(wanted)}"
    assert_holds(live == wanted, claim=found)
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    found = f"the tensors have {dtypes}, wanted the config's {adapter_dtype(case)}"
    assert_holds(set(dtypes.values()) == {adapter_dtype(case)}, claim=found)
    if case.variant not in BUILT_IN:
        return
    exact = case.variant in EXACT or case.option.get("init") == "zero_b"
    declared, meant = subject.identity(case), "exact" if exact else "rounding"
    found = f"the identity at init is declared {declared!r}, wanted {meant!r}"
    assert_holds(declared == meant, claim=found)


@claim(adapted_layers, stage="init", share=0.3, subject="lora_lite")
def test_attach_writes_every_entry(case: AdaptedLayer) -> None:
    """Where fresh memory holds NaN, as torch fills it in deterministic mode, attach neither keeps nor refuses
    it.
    """
    torch.use_deterministic_algorithms(True)
    try:
        (tensors,) = attach(case).initial.values()
    except ll.ConfigError as error:
        raise Violation(f"attach is refused where memory held NaN before: {error}") from error
    finally:
        torch.use_deterministic_algorithms(False)
    for name, tensor in tensors.items():
        assert_finite(tensor, what=f"{name}, in memory that held NaN before attach,")


@claim(adapted_layers, stage="init", share=0.3, about=("antipasto",))
def test_antipasto_directions_come_strongest_first(case: AdaptedLayer) -> None:
    """By S without calibration, by S_i · mean|x · v_i| with: blocks turn neighbours in that order."""
    (tensors,) = attach(case).initial.values()
    strength = size = tensors["S"].double()
    if (batches := case.calibration()) is not None:
        x, Vh = torch.cat(batches).double(), tensors["Vh"].double()
        strength = strength * (x @ Vh.mT).abs().mean(0)
        size = size * (x.abs() @ Vh.abs().mT).mean(0)
    # Chosen by wider numbers than those that are kept: S and Vh are rounded once each, of both neighbours.
    kept, computed = (
        torch.finfo(dtype).eps
        for dtype in (adapter_dtype(case), torch.promote_types(adapter_dtype(case), torch.float16))
    )
    slack = (4 * kept + 128 * computed) * size.max()
    falls = (strength[1:] - strength[:-1]).relu()
    assert_within(
        falls,
        torch.zeros_like(falls),
        slack.item(),
        what="the rise in strength from one direction to the next",
        like="zero",
    )


@claim(st.just, stage="init", about=tuple(DRAWN), subject="lora_lite")
def test_random_inits_are_independent(variant: str) -> None:
    """Of layer, of row and of attach; and torch.manual_seed repeats them."""

    def drawn() -> dict[str, dict[str, Tensor]]:
        model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
        ll.attach(model, ll.VARIANTS[variant].config_class(r=4))
        return subject.tensors(model)

    torch.manual_seed(0)
    first, second = drawn(), drawn()
    torch.manual_seed(0)
    again = drawn()
    for name, wanted in DRAWN[variant].items():
        rows = first["0"][name].detach()
        rank = int(torch.linalg.matrix_rank(rows))
        assert_holds(rank == wanted, claim=f"{name} starts with rank {rank}, wanted {wanted}")
        assert_holds(not torch.equal(rows, first["1"][name]), claim=f"two layers start with the same {name}")
        found = f"two calls of attach start with the same {name}"
        assert_holds(not torch.equal(rows, second["0"][name]), claim=found)
    for layer, tensors in first.items():
        what = f"the init of layer {layer} after torch.manual_seed(0)"
        assert_all_identical(again[layer], tensors, what=what, like="what it was after the same call before")


@claim(st.just, stage="init", about=("pissa",), subject="lora_lite")
def test_pissa_iterations_bring_the_randomised_svd_closer(variant: str) -> None:
    """A spectrum that falls slowly: next to no error after 24 iterations, plenty after none."""
    left, _ = torch.linalg.qr(gaussian(1, "left", (40, 40), torch.float64))
    right, _ = torch.linalg.qr(gaussian(2, "right", (40, 40), torch.float64))
    model = nn.Sequential(nn.Linear(40, 40, bias=False, dtype=torch.float64))
    with torch.no_grad():
        model[0].weight.copy_(left * torch.where(torch.arange(40) < 2, 1.5, 1.0) @ right)  # type: ignore[operator]
    best = torch.tensor([1.5, 1.5], dtype=torch.float64)
    torch.manual_seed(0)
    ll.attach(model, ll.PiSSAConfig(r=2, alpha=2.0, niter=24, dtype=torch.float64))
    found = torch.linalg.svdvals(subject.tensors(model)["0"]["A"].detach()).square()
    assert_within(
        found,
        best,
        claim_bound(1.5, torch.float32),
        what="the squares of A's singular values after 24 iterations",
        like="the two largest of the weight",
    )


@claim(stage="init", subject="lora_lite")
def test_a_random_init_reaches_the_ends_of_its_range() -> None:
    """Uniform in ±1/√fan_in: of 4,096 entries the largest is within 1 % of it, but once in 10^17 times."""
    torch.manual_seed(0)
    kaiming_uniform(tensor := torch.empty(64, 64))
    share = float(tensor.abs().max()) * math.sqrt(64)
    assert_holds(
        0.99 < share <= 1, claim=f"kaiming_uniform: the largest of 4,096 entries is {share:.4f} / √fan_in"
    )
    lopsided = abs(float(tensor.mean())) * math.sqrt(3 * 64 * 4096)
    assert_holds(lopsided < 5, claim=f"kaiming_uniform: the mean is {lopsided:.1f} standard errors from 0")
