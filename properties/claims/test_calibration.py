"""Calibration: every token of every batch counts, each layer looks at its own inputs, and nothing is left
behind.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import (
    Violation,
    assert_all_identical,
    assert_holds,
    assert_refuses,
    assert_within,
)
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config
from properties.judging.snapshot import assert_as_before, state_of
from properties.judging.tolerance import CLAIM_SAFETY
from strategies import gaussian
from strategies.options import BUILT_IN, Options, build_config, own_options, ranks

D = torch.float64
EPS = torch.finfo(D).eps


def takes_data(variant: type[ll.Variant]) -> bool:
    """Whether its init looks at calibration data."""
    return variant.calibrator.__func__ is not ll.Variant.calibrator.__func__  # type: ignore[attr-defined]


def shares_ranks(variant: type[ll.Variant]) -> bool:
    """Whether it hands out ranks by what the data shows."""
    return any(field.name == "rho" for field in dataclasses.fields(variant.config_class))


class Chain(nn.Module):
    """Three linear layers with dropout between; `gates` scales the second one's input, so that each layer
    sees its own.
    """

    def __init__(self, width: int, keyword: bool, seed: int) -> None:
        super().__init__()
        self.keyword = keyword
        self.first, self.second, self.third = (nn.Linear(width, width, dtype=D) for _ in range(3))
        self.drop = nn.Dropout(0.5)
        self.trained_in: set[tuple[bool, bool]] = set()
        for name, parameter in self.named_parameters():
            parameter.data.copy_(gaussian(seed, name, tuple(parameter.shape), D) * width**-0.5)

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        self.trained_in.add((self.training or self.drop.training, torch.is_grad_enabled()))
        h = torch.sin(self.first(input=x) if self.keyword else self.first(x))
        h = h if gates is None else h * gates
        h = self.drop(h)
        y = self.second(input=h) if self.keyword else self.second(h)
        z: Tensor = self.third(y * y)
        return z


@dataclass(frozen=True)
class Calibrated:
    """A Chain and its calibration data: batches of these many tokens, whose mean is `offset` away from
    zero.
    """

    variant: str
    options: Options
    width: int
    batches: tuple[int, ...]
    offset: float
    keyword: bool
    form: str
    seed: int

    def build(self) -> Chain:
        return Chain(self.width, self.keyword, self.seed)

    def tokens(self) -> tuple[Tensor, Tensor]:
        """All inputs and gates (tokens, width); the variances halve from one direction to the next."""
        shape = (sum(self.batches), self.width)
        directions, _ = torch.linalg.qr(gaussian(self.seed, "directions", (self.width, self.width), D))
        x = gaussian(self.seed, "tokens", shape, D) * 0.5 ** torch.arange(self.width)
        # Later tokens are larger: whoever forgets some of them, or weighs batches alike, gets something else.
        x = x * torch.linspace(0.3, 1.5, shape[0], dtype=D)[:, None]
        return x @ directions + self.offset, gaussian(self.seed, "gates", shape, D)

    def data(self, batches: tuple[int, ...] | None = None) -> list[Any]:
        x, gates = (torch.split(t, list(batches or self.batches)) for t in self.tokens())
        forms: dict[str, Callable[[Tensor, Tensor], Any]] = {
            "tensor": lambda x, g: x[None],
            "tuple": lambda x, g: (x, g),
            "dict": lambda x, g: {"gates": g, "x": x},
        }
        return [forms[self.form](*pair) for pair in zip(x, gates, strict=True)]

    def inputs(self) -> dict[str, Tensor]:
        """What each layer of the plain model gets over all tokens, (tokens, width), by the definition of
        Chain.
        """
        model: Any = self.build().eval().requires_grad_(False)
        x, gates = self.tokens()
        second = torch.sin(model.first(x)) * (1 if self.form == "tensor" else gates)
        return {"first": x, "second": second, "third": model.second(second).square()}

    def config(self) -> ll.AdapterConfig:
        return build_config(self.variant, self.options)


@st.composite
def calibrations(
    draw: st.DrawFn, variant: str, *, rhos: tuple[float, ...] = (1.0, 1.25, 1.6, 2.0, 3.0)
) -> Calibrated:
    """Many more tokens than the width. Shrinks towards two small batches of plain tensors."""
    width = draw(st.sampled_from((4, 6)))
    own = [
        (name, draw(st.sampled_from(rhos if name == "rho" else values)))
        for name, values in own_options(variant).items()
    ]
    drawn: Options = (*own, ("dtype", "float64"))
    r = draw(st.sampled_from([r for r in ranks(variant, width, width, drawn) if r is not None and r <= 4]))
    return Calibrated(
        variant,
        (("r", r), *drawn),
        width,
        batches=(*draw(st.lists(st.sampled_from((1, 2, 9, 24)), min_size=1, max_size=3)), 20),
        offset=draw(st.sampled_from((0.0, 3.0))),
        keyword=draw(st.booleans()),
        form=draw(st.sampled_from(("tensor", "tuple", "dict"))),
        seed=draw(st.integers(0, 2**16 - 1)),
    )


def calibrated(
    model: nn.Module, config: ll.AdapterConfig, data: Iterable[Any] | None
) -> dict[str, dict[str, Tensor]]:
    """Every adapter tensor by layer and name. Raises Violation where attach refuses."""
    try:
        adapter = ll.attach(model, config, data)
    except ll.LoraLiteError as error:
        raise Violation(f"{config}: refused with {error}") from error
    tensors: dict[str, dict[str, Tensor]] = {name: {} for name in adapter.targets}
    for named in (adapter.named_parameters(), adapter.named_buffers()):
        for name, tensor in named:
            layer, _, own = name.rpartition(".")
            tensors[layer][own] = tensor.detach()
    return tensors


# What calibration should find, from all inputs at once.


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variances × tokens, largest first, and the directions as rows: of the centred inputs, by their
    own SVD.
    """
    _, S, Vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return S.square(), Vh


def shares(inputs: Mapping[str, Tensor], config: Any) -> dict[str, list[float]]:
    """Each layer's leading shares of its own variance, as many as it may have ranks."""
    found = {name: spectrum(x)[0] for name, x in inputs.items()}
    return {
        name: (variance / variance.sum()).tolist()[: round(config.r * config.rho)]
        for name, variance in found.items()
    }


def wanted_ranks(inputs: Mapping[str, Tensor], config: Any) -> dict[str, int]:
    """peft's rule: each layer's first round(r · rho) shares of explained variance compete for r × layers
    places.
    """
    found = shares(inputs, config)
    bar = sorted((share for of_layer in found.values() for share in of_layer), reverse=True)[
        config.r * len(inputs) - 1
    ]
    return {name: sum(share >= bar for share in of_layer) for name, of_layer in found.items()}


def check_directions(layer: str, A: Tensor, x: Tensor) -> None:
    """Each row of A spans the same line as the principal direction of x at its place, up to rounding over its
    gap.
    """
    variance, directions = spectrum(x)
    gap = torch.full((len(A),), torch.inf, dtype=D)
    for i in range(len(A)):
        others = torch.cat((variance[:i], variance[i + 1 :]))
        gap[i] = (others - variance[i]).abs().min()
    # Second moments in float64 are off by eps times what flowed into them, uncentred tokens included.
    size = x.square().sum().sqrt() * variance[0].sqrt() + variance[0]
    error = CLAIM_SAFETY * len(variance) * EPS * size / gap
    cosines = (A * directions[: len(A)]).sum(-1, keepdim=True)
    wanted = directions[: len(A)] * cosines.sign()
    claim = f"A of {layer} holds the principal directions of all its inputs"
    assert_within(A, wanted, error[:, None].expand_as(A), what=claim)
    peaks = A.gather(1, A.abs().argmax(1, keepdim=True))
    assert_holds(
        bool((peaks > 0).all()),
        claim=f"the largest entry of each row of {layer}.A is positive, got {peaks.tolist()}",
    )


@claim(calibrations, stage="calibration", share=0.5, needs=("shared ranks",))
def test_principal_directions_are_those_of_all_tokens(case: Calibrated) -> None:
    """Centred, over every batch, in each layer's own inputs; ranks as peft's rule gives them, alpha / r as
    configured.
    """
    inputs, config, model = case.inputs(), case.config(), case.build()
    wanted = wanted_ranks(inputs, config)
    got = calibrated(model, config, case.data())
    found = {name: len(tensors["A"]) for name, tensors in got.items()}
    assert_holds(
        found == {name: rank for name, rank in wanted.items() if rank},
        claim=f"ranks {found}, wanted {wanted} from the shares {shares(inputs, config)}",
    )
    for name, tensors in got.items():
        check_directions(name, tensors["A"], inputs[name])
        scale = ll.adapters_of(model)[0].layers()[name].scale
        assert_holds(
            abs(scale / config.scale - 1) < 4 * EPS,
            claim=f"{name}: alpha / r = {scale}, wanted {config.scale}",
        )


@claim(calibrations, stage="calibration", share=0.3, needs=("shared ranks",))
def test_ranks_keep_the_total_budget(case: Calibrated) -> None:
    """r × layers in all, at most round(r · rho) each; r everywhere with rho = 1."""
    config: Any = case.config()
    got = {name: len(tensors["A"]) for name, tensors in calibrated(case.build(), config, case.data()).items()}
    assert_holds(
        sum(got.values()) == 3 * config.r,
        claim=f"ranks {got} at r = {config.r}: wanted {3 * config.r} in all",
    )
    most = round(config.r * config.rho)
    assert_holds(
        max(got.values()) <= most,
        claim=f"ranks {got} at r = {config.r}, rho = {config.rho}: wanted {most} at most",
    )
    if config.rho == 1:
        assert_holds(set(got.values()) == {config.r}, claim=f"ranks {got}, wanted {config.r} each")


@claim(calibrations, stage="calibration", share=0.5, needs=("optional calibration",))
def test_singular_directions_are_chosen_by_their_use(case: Calibrated) -> None:
    """Those with the largest S_i · mean|x · v_i| over all tokens, strongest first."""
    inputs, model = case.inputs(), case.build()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    r = dict(case.options)["r"]
    for name, tensors in calibrated(model, case.config(), case.data()).items():
        U, S, Vh = torch.linalg.svd(weights[f"{name}.weight"])
        use = S * (inputs[name] @ Vh.mT).abs().mean(0)
        chosen = use.argsort(descending=True)[:r]
        error = CLAIM_SAFETY * EPS * S[0]
        assert_within(tensors["S"], S[chosen], error, what=f"{name}: the singular values in use")
        triplets = (tensors["U"] * tensors["S"]) @ tensors["Vh"]
        assert_within(
            triplets, (U[:, chosen] * S[chosen]) @ Vh[chosen], error * 8, what=f"{name}: the triplets in use"
        )


@claim(calibrations, stage="calibration", share=0.5, needs=("calibration",))
def test_calibration_does_not_depend_on_batches(case: Calibrated) -> None:
    """The same tokens in one batch, in one-token batches or as drawn give the same adapter, to float64
    rounding.
    """
    torch.manual_seed(case.seed)
    got = calibrated(case.build(), case.config(), case.data())
    inputs, count = case.inputs(), sum(case.batches)
    for batches in ((count,), (1,) * count):
        torch.manual_seed(case.seed)
        other = calibrated(case.build(), case.config(), iter(case.data(batches)))
        assert_holds(
            list(got) == list(other),
            claim=f"adapted {list(other)} with batches {batches}, {list(got)} as drawn",
        )
        for layer, tensors in got.items():
            for name, tensor in tensors.items():
                if name in ("A", "U", "S", "Vh"):
                    assert_within(
                        other[layer][name],
                        tensor,
                        sensitivity(inputs[layer], len(tensor)) if name == "A" else CLAIM_SAFETY * EPS,
                        what=(
                            f"{layer}.{name} with batches {batches[:3]}… of {len(batches)}, against"
                            f" {case.batches}"
                        ),
                    )


def sensitivity(x: Tensor, r: int) -> float:
    """How far rounding may turn the first r principal directions of x: by their smallest gap."""
    variance, _ = spectrum(x)
    size = x.square().sum().sqrt() * variance[0].sqrt() + variance[0]
    gap = (variance[:-1] - variance[1:])[:r].min()
    return float(CLAIM_SAFETY * len(variance) * EPS * size / gap)


@claim(calibrations, stage="calibration", share=0.3, needs=("calibration",))
def test_calibration_leaves_nothing_behind(case: Calibrated) -> None:
    """It runs in eval mode without gradients; flags (mixed ones too), hooks and gradients are as before."""
    model = case.build()
    for i, module in enumerate(model.modules()):
        module.training = (case.seed >> i) % 2 == 1
    before = state_of(model)
    calibrated(model, case.config(), case.data())
    assert_holds(
        model.trained_in == {(False, False)},
        claim=f"(training, gradients) in calibration were {model.trained_in}",
    )
    assert_holds(all(p.grad is None for p in model.parameters()), claim="calibration left gradients")
    ll.detach(model)
    assert_as_before(model, before, claim="after calibration, and detach of what it made")


# Single facts.


def two_layers(width: int = 8) -> Any:
    """`sharp` gets inputs along a line and a little more, `flat` the same in all directions."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sharp, self.flat = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.sharp(x * 0.1 ** torch.arange(width)) + self.flat(x)
            return y

    return Two()


def batches(*sizes: int, width: int = 8) -> list[Tensor]:
    return [gaussian(i, "batch", (size, width)) for i, size in enumerate(sizes)]


@claim(stage="calibration")
def test_a_layer_without_ranks_is_left_alone() -> None:
    """All the budget of r = 1 on two layers goes where it explains most; the other layer is no target."""
    model: Any = nn.Sequential(two_layers(), nn.Identity())
    model[0].sharp, model[0].flat = nn.Linear(8, 8), nn.Linear(8, 8)
    two = torch.tensor([3.0, 2.9, 0, 0, 0, 0, 0, 0])
    model[0].forward = lambda x: model[0].sharp(x * two) + model[0].flat(x)
    got = calibrated(model, ll.EVAConfig(r=1, rho=2, alpha=3), batches(64))
    assert_holds(
        {n: len(t["A"]) for n, t in got.items()} == {"0.sharp": 2},
        claim=f"got {list(got)}, wanted 0.sharp of rank 2",
    )
    left = [*model[0].flat.children(), *model[0].flat._forward_hooks]
    assert_holds(left == [], claim=f"flat carries {left}")
    assert_holds(
        ll.adapters_of(model)[0].layers()["0.sharp"].scale == 3.0,
        claim="alpha / r of the layer is the config's",
    )


@claim(stage="calibration")
def test_a_narrow_layer_gets_no_more_ranks_than_it_has_outputs() -> None:
    """Three directions hold all its variance, two fit: the budget left over goes to the other one."""
    model = two_layers()
    model.sharp = nn.Linear(8, 2)
    model.forward = lambda x: model.sharp(x * (torch.arange(8) < 3)).sum() + model.flat(x)
    found = {
        name: len(own["A"])
        for name, own in calibrated(model, ll.EVAConfig(r=2, rho=2), batches(1000)).items()
    }
    assert_holds(
        found == {"sharp": 2, "flat": 2},
        claim=f"ranks {found} at r = 2, rho = 2, where sharp has two outputs",
    )


@claim(stage="calibration")
def test_a_layer_gets_up_to_r_times_rho_ranks() -> None:
    """Rounded to the nearest: 3 · 1.25 is 4 at most. Variance in six directions beats the same in eight."""
    model = two_layers()
    six = (torch.arange(8) < 6).float()
    model.forward = lambda x: model.sharp(x * six) + model.flat(x)
    for rho, wanted in ((1, (3, 3)), (1.25, (4, 2)), (1.4, (4, 2)), (1.5, (4, 2)), (2, (6, 0))):
        got = calibrated(model, ll.EVAConfig(r=3, rho=rho), batches(1000))
        found = tuple(len(got[name]["A"]) if name in got else 0 for name in ("sharp", "flat"))
        assert_holds(found == wanted, claim=f"ranks {found} at r = 3, rho = {rho}, wanted {wanted}")
        ll.detach(model)


@claim(stage="calibration")
def test_too_little_data_is_refused() -> None:
    """With the numbers that are missing, for tokens and for rank; never an endless loop or an arbitrary
    direction.
    """
    line = torch.outer(torch.arange(20.0), torch.ones(8))
    for data, config, match in (
        (batches(2), ll.EVAConfig(r=3), "^sharp: 2 calibration tokens for 3 components"),
        (batches(1, 2), ll.EVAConfig(r=2, rho=2), "^sharp: 3 calibration tokens for 4 components"),
        (batches(3), ll.EVAConfig(r=3), "^sharp: the calibration inputs, centred, have rank 2, wanted 3"),
        ([line], ll.EVAConfig(r=2), "^sharp: the calibration inputs, centred, have rank 1, wanted 2"),
        ([torch.ones(9, 8) * 3], ll.EVAConfig(r=1), "have rank 0, wanted 1"),
        (batches(0, 0), ll.EVAConfig(r=1), "^sharp, flat: no calibration token reached 2 of 2 targets"),
        (batches(0, 0), ll.AntiPaSTOConfig(r=4), "^sharp, flat: no calibration token reached 2 of 2 targets"),
        ([], ll.EVAConfig(r=1), "holds no batch"),
        ([], ll.AntiPaSTOConfig(r=4), "holds no batch"),
        (None, ll.EVAConfig(r=1), "eva starts from the layers' inputs. Give attach calibration_data"),
    ):
        with assert_refuses(ll.CalibrationError, match, claim=f"{config} with {data}"):
            ll.attach(two_layers(), config, data)


@claim(stage="calibration")
def test_data_that_is_not_finite_is_refused_by_the_layer() -> None:
    """Hooks and modes are as before, also where the second batch fails."""
    for config in (ll.EVAConfig(r=1), ll.AntiPaSTOConfig(r=4)):
        for bad in (torch.nan, torch.inf):
            model = two_layers().train()
            model.flat.eval()
            with assert_refuses(
                ll.CalibrationError, "^sharp: the calibration data gives NaN or Inf", claim=f"{bad}"
            ):
                ll.attach(model, config, [*batches(9), torch.full((2, 8), bad)])
            left = [
                n
                for n, m in model.named_modules()
                if m._forward_hooks or m._forward_pre_hooks or hasattr(m, "lora_lite")
            ]
            assert_holds(not left, claim=f"after a refusal {left} carry hooks")
            flags = (model.training, model.sharp.training, model.flat.training)
            assert_holds(
                flags == (True, True, False), claim=f"after a refusal the training flags are {flags}"
            )


@claim(stage="calibration")
def test_a_generator_gives_its_batches_once() -> None:
    """The first pass is as good as a list; on a used-up generator attach says so."""
    for config in (ll.EVAConfig(r=2, dtype=D), ll.AntiPaSTOConfig(r=4, dtype=D)):
        first, second = two_layers(), two_layers()
        second.load_state_dict(first.state_dict())

        def stream() -> Iterator[Tensor]:
            yield from batches(1, 20, 0, 7)

        torch.manual_seed(0)
        once = stream()
        got = calibrated(first, config, once)
        with assert_refuses(ll.CalibrationError, "a generator can be used only once", claim=f"{config}"):
            ll.attach(two_layers(), config, once)
        torch.manual_seed(0)
        wanted = calibrated(second, config, batches(1, 20, 7))
        for name in wanted:
            assert_all_identical(got[name], wanted[name], what=f"{config}: {name} from a generator")


@claim(stage="calibration")
def test_a_target_that_no_data_reaches_is_refused() -> None:
    model: Any = two_layers()
    model.unused = nn.Linear(8, 8)
    for config in (ll.EVAConfig(r=1), ll.AntiPaSTOConfig(r=4)):
        with assert_refuses(
            ll.CalibrationError, "^unused: no calibration token reached 1 of 3 targets", claim=f"{config}"
        ):
            ll.attach(model, config, batches(20))
        calibrated(model, dataclasses.replace(config, exclude_names=("unused",)), batches(20))
        ll.detach(model)


@claim(stage="calibration")
def test_variants_that_take_no_data_do_not_look_at_it() -> None:
    for name in BUILT_IN:
        if not takes_data(ll.VARIANTS[name]):
            once = iter(batches(20, width=4))
            calibrated(nn.Sequential(nn.Linear(4, 4)), simple_config(name), once)
            assert_holds(next(once, None) is not None, claim=f"{name} used calibration data up")
