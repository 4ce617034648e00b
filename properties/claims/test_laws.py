"""Laws that hold whatever the parameters, and claims that a comparison with the oracle is too coarse or too
narrow to see.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis.strategies import SearchStrategy
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_close,
    assert_equal,
    assert_holds,
    assert_runs,
    assert_within,
)
from properties.judging.claim import every_variant, fact
from properties.judging.tolerance import (
    PROBES,
    SAFETY,
    Bounded,
    claim_bound,
    perturbed,
    perturbed_all,
    unit_roundoff,
)
from properties.oracles import ORACLES
from properties.subjects.lora_lite import adapter_dtype, implementation
from properties.subjects.observe import (
    Layer,
    adapts_input,
    expected,
    expected_output,
    has_oracle,
    observe,
    options_of,
    subject,
)
from strategies import AdaptedLayer, LinearRecipe, adapted_layers, gaussian, trained_layers
from strategies.options import accepts

# What the papers train, and whose identity at init is exact; the library's own declarations are not asked.
TRAINABLE = {
    "lora": {"A", "B"},
    "pissa": {"A", "B"},
    "dora": {"A", "B", "m"},
    "delora": {"A", "B", "lambda_"},
    "ia3": {"offset"},
    "ia3_ff": {"offset"},
    "hra": {"U"},
    "eva": {"A", "B"},
    "antipasto": {"delta_s", "rot"},
}
EXACT = {"lora", "eva", "ia3", "ia3_ff", "antipasto"}
# Variants that work in float32 at least, whatever the dtype that all their tensors are stored in.
WIDE = {"hra"}
# Variants that draw from the random generator, and the rank at r = 4 of each tensor that they draw: hra's
# rows are pairs.
DRAWN = {"lora": {"A": 4}, "dora": {"A": 4}, "delora": {"A": 4, "B": 4}, "hra": {"U": 2}}


def only(*variants: str) -> Any:
    """The property is about these variants alone."""
    return lambda variant: variant.name in variants


@every_variant(adapted_layers, share=0.3, applies=only(*TRAINABLE))
def test_the_tensors_are_as_the_paper_and_the_config_say(case: AdaptedLayer) -> None:
    """Those that the paper trains require a gradient and no others do; all have the config's dtype; exact is
    exact.
    """
    made = subject(case)
    (tensors,) = implementation.tensors(made.model).values()
    wanted = TRAINABLE[case.variant] - ({"rot"} if case.option.get("rotate_basis") == "none" else set())
    live = {name for name, tensor in tensors.items() if tensor.requires_grad}
    assert_holds(live == wanted, claim=f"{sorted(live)} require a gradient, wanted {sorted(wanted)}")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    assert_holds(dtypes == {adapter_dtype(case)}, claim=f"tensors are {dtypes}, wanted {adapter_dtype(case)}")
    exact = case.variant in EXACT or case.option.get("init") == "zero_b"
    declared = implementation.identity(case)
    assert_holds(
        declared == ("exact" if exact else "rounding"), claim=f"the identity at init is declared {declared}"
    )


@every_variant(adapted_layers, share=0.3)
def test_attach_writes_every_entry(case: AdaptedLayer) -> None:
    """Where fresh memory holds NaN, as torch fills it in deterministic mode, attach neither keeps nor refuses
    it.
    """
    torch.use_deterministic_algorithms(True)
    try:
        (tensors,) = subject(case).initial.values()
    except ll.ConfigError as error:
        raise Violation(f"where memory held NaN before, attach says: {error}") from error
    finally:
        torch.use_deterministic_algorithms(False)
    for name, tensor in tensors.items():
        assert_holds(
            bool(torch.isfinite(tensor).all()), claim=f"after attach {name} holds what its memory held before"
        )


def step(model: nn.Module, seed: int, size: float) -> None:
    """Move every trainable entry by about `size`, as a first optimiser step does."""
    with torch.no_grad():
        for target, tensors in implementation.tensors(model).items():
            for name, tensor in tensors.items():
                if isinstance(tensor, nn.Parameter):
                    tensor.add_(size * gaussian(seed, f"step {target} {name}", tuple(tensor.shape)))


@every_variant(
    partial(
        adapted_layers, base_dtypes=("float64", "float32"), adapter_dtypes=("float32", "bfloat16", "float16")
    ),
    applies=has_oracle,
)
def test_a_small_step_agrees_with_the_oracle(case: AdaptedLayer) -> None:
    """Of a thousandth, from init: what rounds to nothing, or cancels, in a parameter that has hardly
    moved.
    """
    made = subject(case)
    step(made.model, case.seed, 1e-3)
    (layer,) = observe(made)
    wanted = expected(layer)
    assert_close(layer.y, wanted.y, claim=f"the output of {layer.name} after a small step is the oracle's")
    for name, gradient in layer.gradients.items():
        assert_close(
            gradient, wanted.gradients[name], claim=f"the gradient of {layer.name}.{name} after a small step"
        )


def finer_than_base(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers whose adapter works in a dtype so much finer than the base's that one rounding can be
    told from two.
    """
    cases = trained_layers(variant, base_dtypes=("bfloat16", "float32"))
    return cases.filter(
        lambda case: SAFETY * unit_roundoff(working_dtype(case)) < unit_roundoff(case.base_dtype)
    )


def working_dtype(case: AdaptedLayer) -> torch.dtype:
    """The dtype in which the variant computes."""
    dtype = adapter_dtype(case)
    return torch.promote_types(dtype, torch.float32) if case.variant in WIDE else dtype


@every_variant(finer_than_base, applies=has_oracle)
def test_only_the_result_is_rounded_to_the_base_dtype(case: AdaptedLayer) -> None:
    """Given the base's own output (a pre-hook variant: its input), what comes out is the oracle's, rounded
    once.
    """
    made = subject(case)
    module: Any = made.model[0]  # type: ignore[index]  # an nn.Sequential of one layer
    seen: list[Tensor] = []
    # After the adapter's own hook: what the base layer is given.
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    x, W, b = case.x(), module.weight.detach(), None if module.bias is None else module.bias.detach()
    got, dtype = made.model(x).detach(), working_dtype(case)
    tensors, (initial,) = implementation.tensors(made.model)["0"], made.initial.values()
    p, p0 = perturbed_all("now ", tensors, dtype), perturbed_all("initial ", initial, dtype)
    xs = perturbed("x", x.reshape(-1, x.shape[-1]), dtype)
    if adapts_input(case.variant):
        (got,) = seen
        eye = torch.eye(case.linear.d_in, dtype=torch.float64).expand(1 + PROBES, -1, -1)
        y = ORACLES[case.variant].forward(xs, eye, None, torch.zeros_like(xs), p, p0, options_of(case))
    else:
        plain = perturbed("plain", F.linear(x, W, b).reshape(-1, case.linear.d_out), dtype)
        Ws, bs = perturbed("W", W, dtype), None if b is None else perturbed("b", b, dtype)
        exact = xs @ Ws.mT + (0 if bs is None else bs.unsqueeze(-2))
        y = ORACLES[case.variant].forward(xs, Ws, bs, plain - exact, p, p0, options_of(case))
    assert_rounded_once(got, y.detach(), dtype, claim="the result is rounded to the base dtype once")


def assert_rounded_once(got: Tensor, results: Tensor, dtype: torch.dtype, *, claim: str) -> None:
    """Some number that rounds to `got` is as near to the exact result as the probes scatter."""
    exact, got = results[0], got.reshape(results[0].shape)
    error = SAFETY * (results[1:] - exact).square().mean(0).sqrt()
    # Half the spacing of the dtype's numbers where the result lies.
    size = (exact.abs() + error).clamp(min=torch.finfo(got.dtype).smallest_normal)
    half = unit_roundoff(got.dtype) * torch.exp2(torch.frexp(size).exponent - 1)
    unrounded = exact.clamp(got.double() - half, got.double() + half)
    assert_within(unrounded, exact, error, claim=claim, dtype=dtype)


@every_variant(adapted_layers, share=0.5, applies=only("hra"))
def test_zero_rows_of_hra_are_no_reflection(case: AdaptedLayer) -> None:
    """With U = 0 the output and the input's gradient are exactly the base's; U's gradient is finite."""
    made = subject(case)
    x = case.x().requires_grad_()
    plain = made.model[0].forward(x)  # type: ignore[index]  # forward() alone runs no hooks
    upstream = gaussian(case.seed, "upstream", tuple(plain.shape), plain.dtype)
    (dx,) = torch.autograd.grad(plain, x, upstream)
    with torch.no_grad():
        for tensor in implementation.tensors(made.model)["0"].values():
            tensor.zero_()
    (layer,) = observe(made)
    assert_equal(layer.y.detach(), plain.detach(), claim="with U = 0 the output is the base's")
    assert_equal(layer.dx, dx, claim="with U = 0 the input's gradient is the base's")
    assert_holds(
        bool(torch.isfinite(layer.gradients["U"]).all()), claim="with U = 0 the gradient of U is finite"
    )


def frozen_copies(variant: str, **drawn: Any) -> SearchStrategy[AdaptedLayer]:
    """Trained DeLoRA whose norms have no floor, in dtypes that hold very short rows."""
    cases = trained_layers(variant, adapter_dtypes=("float32", "bfloat16", "float64"), **drawn)
    return cases.filter(lambda case: case.option["init"] == "frozen_copy")


@every_variant(frozen_copies, share=0.2, applies=only("delora"))
def test_zero_rows_of_delora_give_finite_numbers(case: AdaptedLayer) -> None:
    """With A = 0 or B = 0 output and gradients are finite."""
    for name in ("A", "B"):
        made = subject(case)
        with torch.no_grad():
            implementation.tensors(made.model)["0"][name].zero_()
        (layer,) = observe(made)
        for tensor in (layer.y, layer.dx, *layer.gradients.values()):
            assert_holds(
                bool(torch.isfinite(tensor).all()), claim=f"with {name} = 0 output and gradients are finite"
            )


@every_variant(frozen_copies, share=0.5, applies=only("delora"))
def test_the_length_of_delora_rows_does_not_matter(case: AdaptedLayer) -> None:
    """Rows of A and columns of B times powers of two, down to 2⁻²⁴: the same output."""
    made = subject(case)
    before = made.model(case.x()).detach()
    tensors: dict[str, Tensor] = implementation.tensors(made.model)["0"]
    scales = 2.0 ** -torch.arange(24, -1, -3)[: len(tensors["A"])].to(tensors["A"])
    with torch.no_grad():
        tensors["A"] *= scales[:, None]
        tensors["B"] *= scales
    (layer,) = observe(made)
    bound = expected_output(layer).error.reshape(before.shape)
    assert_close(
        layer.y, Bounded(before.double(), bound), claim="the output does not depend on the length of rows"
    )


def half_precision_copies(variant: str, **drawn: Any) -> SearchStrategy[AdaptedLayer]:
    """The same in float16, on weights of a usual size."""
    half = {"dtype": "float16"}
    return frozen_copies(variant, weights=("gaussian",), **drawn).map(
        lambda case: replace(case, options=tuple({**case.option, **half}.items()))
    )


def wide_in_half_precision(variant: str) -> SearchStrategy[AdaptedLayer]:
    """Trained layers with a base in float16; squares along its rows and columns add up to more than float16
    holds.
    """
    cases = trained_layers(
        variant, weights=("vast",), base_dtypes=("float16",), adapter_dtypes=("float16", "bfloat16")
    )
    wide = cases.map(lambda case: replace(case, linear=replace(case.linear, d_in=24, d_out=24)))
    return wide.filter(lambda case: accepts(variant, 24, 24, case.options))


@every_variant(wide_in_half_precision, share=0.5, applies=has_oracle)
def test_squares_that_overflow_half_precision_leave_the_output_right(case: AdaptedLayer) -> None:
    """A norm of Inf would turn the output to zero or NaN, or make attach refuse."""
    with assert_runs("attach on a weight that float16 holds"):
        made = subject(case)
    (layer,) = observe(made)
    assert_close(
        layer.y, expected_output(layer), claim="the output of a layer whose squares overflow is the oracle's"
    )


@every_variant(half_precision_copies, share=0.3, applies=only("delora"))
def test_short_rows_of_delora_do_not_overflow(case: AdaptedLayer) -> None:
    """λ over both lengths is more than float16 holds, with the tokens and without; what is added is not."""
    made = subject(case)
    tensors: dict[str, Tensor] = implementation.tensors(made.model)["0"]
    with torch.no_grad():
        tensors["A"] *= 2.0**-9
        tensors["B"] *= 2.0**-9
    (layer,) = observe(made)
    assert_close(layer.y, expected_output(layer), claim="the output with short rows is the oracle's")


@every_variant(partial(half_precision_copies, tokens=((1,),)), applies=only("delora"))
def test_gradients_of_delora_may_cancel_in_half_precision(case: AdaptedLayer) -> None:
    """Of a short row along its token: the difference of two terms that both overflow float16."""
    made = subject(case)
    tensors: dict[str, Tensor] = implementation.tensors(made.model)["0"]
    with torch.no_grad():
        tensors["A"][:] = 2.0**-15 * (case.x() * tensors["w"].to(case.base_dtype))
    (layer,) = observe(made)
    wanted = expected(layer)
    for name, gradient in layer.gradients.items():
        assert_close(
            gradient, wanted.gradients[name], claim=f"the gradient of {name} with rows along their token"
        )


@fact
def test_strengths_of_delora_may_cancel_in_half_precision() -> None:
    """Two directions that pull λ as far up as down, by more than float16 holds."""
    model: Any = nn.Sequential(nn.Linear(4, 4, bias=False)).half()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4))
        adapter = ll.attach(model, ll.DeLoRAConfig(r=2, dtype=torch.float16))
        tensors = dict(adapter.named_parameters())
        tensors["0.A"].copy_(torch.eye(4)[[0, 0]])
        tensors["0.B"].copy_(torch.tensor([1.0, -1.0]) * torch.eye(4)[:, [0]])
    e = torch.eye(4, dtype=torch.float16)[:1]
    model(500 * e).backward(500 * e)
    gradient: Any = tensors["0.lambda_"].grad
    assert_equal(gradient, torch.zeros(1, dtype=torch.float16), claim="the gradient of λ whose terms cancel")


@every_variant(adapted_layers, share=0.3, applies=only("antipasto"))
def test_antipasto_directions_come_strongest_first(case: AdaptedLayer) -> None:
    """By S without calibration, by S_i · mean|x · v_i| with: blocks turn neighbours in that order."""
    (tensors,) = subject(case).initial.values()
    strength = tensors["S"].double()
    if (batches := case.calibration()) is not None:
        strength = strength * (torch.cat(batches).double() @ tensors["Vh"].double().mT).abs().mean(0)
    slack = 128 * torch.finfo(torch.promote_types(adapter_dtype(case), torch.float16)).eps * strength.max()
    falls = (strength[1:] - strength[:-1]).relu()
    assert_within(falls, torch.zeros_like(falls), slack.item(), claim="directions come strongest first")


@fact
def test_random_inits_are_independent() -> None:
    """Of layer, of row and of attach; and torch.manual_seed repeats them."""
    for variant, names in DRAWN.items():
        config = ll.VARIANTS[variant].config_class(r=4)

        def drawn(config: ll.AdapterConfig = config) -> dict[str, dict[str, Tensor]]:
            model = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
            ll.attach(model, config)
            return implementation.tensors(model)

        torch.manual_seed(0)
        first, second = drawn(), drawn()
        torch.manual_seed(0)
        again = drawn()
        for name, wanted in names.items():
            rows = first["0"][name].detach()
            rank = int(torch.linalg.matrix_rank(rows))
            assert_holds(rank == wanted, claim=f"{variant}: {name} starts with rank {rank}, wanted {wanted}")
            assert_holds(
                not torch.equal(rows, first["1"][name]),
                claim=f"{variant}: two layers start with the same {name}",
            )
            assert_holds(
                not torch.equal(rows, second["0"][name]), claim=f"{variant}: {name} is the same in every run"
            )
        for layer, tensors in first.items():
            assert_all_identical(
                again[layer], tensors, claim=f"{variant}: torch.manual_seed does not repeat the init"
            )


@fact
def test_hra_stays_accurate_with_many_nearly_parallel_rows() -> None:
    """256 of them in float32, against an oracle in float64: fewer leave a careful kernel accurate by luck."""
    case = AdaptedLayer("hra", LinearRecipe(64, 8), (("r", 256), ("dtype", "float32")), tokens=(5,))
    made = subject(case)
    with torch.no_grad():
        for tensor in implementation.tensors(made.model)["0"].values():
            row = gaussian(1, "row", (1, tensor.shape[1]))
            tensor.copy_(row + 1e-2 * gaussian(2, "spread", tuple(tensor.shape)))
    (layer,) = observe(made)
    gradient = exact_gradient(layer)
    off = (layer.gradients["U"].double() - gradient).norm() / gradient.norm()
    assert_within(
        off,
        torch.zeros_like(off),
        claim_bound(1.0, torch.float32),
        claim="relative error of the gradient of U with 256 nearly parallel rows",
    )


def exact_gradient(layer: Layer) -> Tensor:
    """U's gradient, by the oracle."""
    U = layer.tensors["U"].detach().double().requires_grad_()
    x, W = layer.x.detach().double(), layer.weight.double()
    y = ORACLES["hra"].forward(x, W, None, torch.zeros(len(x), len(W), dtype=torch.float64), {"U": U}, {}, {})
    return torch.autograd.grad(y, U, layer.upstream.double())[0]


@fact
def test_pissa_iterations_bring_the_randomised_svd_closer() -> None:
    """A spectrum that falls slowly: next to no error after 24 iterations, plenty after none."""
    left, _ = torch.linalg.qr(gaussian(1, "left", (40, 40), torch.float64))
    right, _ = torch.linalg.qr(gaussian(2, "right", (40, 40), torch.float64))
    model = nn.Sequential(nn.Linear(40, 40, bias=False, dtype=torch.float64))
    with torch.no_grad():
        model[0].weight.copy_(left * torch.where(torch.arange(40) < 2, 1.5, 1.0) @ right)  # type: ignore[operator]
    best = torch.tensor([1.5, 1.5], dtype=torch.float64)
    torch.manual_seed(0)
    ll.attach(model, ll.PiSSAConfig(r=2, alpha=2.0, niter=24, dtype=torch.float64))
    found = torch.linalg.svdvals(implementation.tensors(model)["0"]["A"].detach()).square()
    assert_within(
        found,
        best,
        claim_bound(1.5, torch.float32),
        claim="singular values of the randomised SVD after 24 iterations",
    )


@fact
def test_small_turns_of_antipasto_keep_their_digits() -> None:
    """On large singular values, in a base fine enough to show it: S itself must not cancel."""
    linear = LinearRecipe(8, 8, dtype="float64", weight="huge")
    made = subject(AdaptedLayer("antipasto", linear, (("r", 4), ("block_size", 4), ("dtype", "float32"))))
    with torch.no_grad():
        for name, tensor in implementation.tensors(made.model)["0"].items():
            if isinstance(tensor, nn.Parameter):
                tensor.copy_(1e-4 * gaussian(0, name, tuple(tensor.shape)))
    (layer,) = observe(made)
    assert_close(layer.y, expected_output(layer), claim="the output at small turns is the oracle's")
