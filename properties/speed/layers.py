"""One adapted linear layer against the same layer without: each is checked against the oracle before it is
timed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import lora_lite as ll
from properties.judging.agreement import assert_agrees
from properties.judging.expected import Expected, expected
from properties.judging.peft_layers import PEFT, expected_by_peft
from properties.speed.sampling import SAMPLES, Call, compare, standing
from properties.subjects import subject
from properties.subjects.attaching import attach
from properties.subjects.layer_runs import Layer
from strategies import AdaptedLayer, LinearRecipe, weight_and_bias
from strategies.options import Options, own_options, simplest

TRAINING = ("forward", "forward+backward")
GENERATION = ("eval",)
# As many tokens are compared with the oracle; the others hand back no gradient meanwhile.
CHECKED_TOKENS = 16


@dataclass(frozen=True)
class Size:
    """A square layer with a bias, the adapter's rank, and the tokens of one call.

    Base and adapter have the same dtype.
    """

    d: int
    r: int
    tokens: int
    dtype: str = "float32"


@dataclass(frozen=True)
class Row:
    """One line of the table: `implementation`'s time over that of the plain frozen layer.

    variant   with the options that are not its defaults, as "delora(init='zero_b')"
    beside    "ahead", "tie" or "behind": ours, where peft has the variant
    flops     of products of matrices, over the base's, counted
    phase     "forward" (building the graph), "forward+backward" (gradients of x and of every parameter),
              "eval" (no graph)
    """

    variant: str
    implementation: str
    d: int
    r: int
    tokens: int
    dtype: str
    threads: int
    phase: str
    ratio: float
    q1: float
    q3: float
    samples: int
    dropped: int
    milliseconds: float
    base_milliseconds: float
    layers: int = 1
    beside: str = ""
    flops: int = 0


SIZES = (Size(1024, 16, 512), Size(1024, 16, 512, "bfloat16"), Size(256, 8, 64))
# One token, as in generation.
DECODE = (Size(1024, 16, 1), Size(1024, 16, 1, "bfloat16"), Size(256, 8, 1))


def cases(variant: str, size: Size) -> list[AdaptedLayer]:
    """The variant with its defaults; where peft does not have those, then also with options that peft has."""
    plain = case_of(variant, size)
    if variant not in PEFT or PEFT[variant].covers(plain):
        return [plain]
    others = [(name, value) for name, values in own_options(variant).items() for value in values[1:]]
    shared = [
        case for case in (case_of(variant, size, other) for other in others) if PEFT[variant].covers(case)
    ]
    return [plain, *shared[:1]]


def case_of(variant: str, size: Size, *chosen: tuple[str, Any]) -> AdaptedLayer:
    """A trained adapter with the variant's defaults but for the options chosen."""
    made = ll.VARIANTS[variant]
    own = dict(simplest(variant)) | dict(chosen)
    rank: Options = () if "r" in made.config_class.unused else (("r", size.r),)
    return AdaptedLayer(
        variant=variant,
        linear=LinearRecipe(size.d, size.d, bias=True, dtype=size.dtype),
        options=(*rank, *own.items(), ("dtype", size.dtype)),
        tokens=(size.tokens,),
        trained=True,
        calibrated=made.needs_calibration,
    )


def label(case: Any) -> str:
    """The variant, and its own options where they are not the defaults."""
    usual = own_options(case.variant)
    own = ", ".join(
        f"{name}={value!r}" for name, value in case.options if name in usual and value != usual[name][0]
    )
    return f"{case.variant}({own})" if own else case.variant


@dataclass(frozen=True)
class Contender:
    """Something to time: a layer, and its trainable tensors."""

    layer: nn.Module
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def gradients(self, x: Tensor, upstream: Tensor) -> tuple[Tensor, ...]:
        """Of x, then of the parameters."""
        return torch.autograd.grad(self.layer(x), [x, *self.parameters.values()], upstream)


def contenders(case: AdaptedLayer, *, check: bool = True) -> tuple[Contender, dict[str, Contender]]:
    """The plain frozen layer; and the adapted ones by implementation: ours and, where it has one, peft's.

    check: raises Violation where one of them does not compute what the oracle says.
    """
    made = attach(case)
    (name,) = made.initial
    base = case.linear.build().requires_grad_(False)
    tensors = subject.tensors(made.model)[name]
    layer = Layer(name, case, *weight_and_bias(base), tensors, made.initial[name])
    found = {"lora_lite": Contender(made.model.get_submodule(name), layer.trainable)}
    _run(found["lora_lite"], layer)
    if check:
        _agree(layer, expected(layer), "the oracle")
    if case.variant in PEFT and PEFT[case.variant].covers(case):
        if check:
            _agree(layer, expected_by_peft(layer), "peft")
        peer = PEFT[case.variant].build(layer)
        found["peft"] = Contender(peer.model.get_submodule("0"), peer.parameters)
    return Contender(base), found


def _run(contender: Contender, layer: Layer) -> None:
    """The very calls that are timed; what came out goes to `layer`."""
    x, upstream = work(layer.case)
    upstream[CHECKED_TOKENS:] = 0
    layer.y = contender.layer(x).detach()[:CHECKED_TOKENS].clone()
    dx, *gradients = contender.gradients(x, upstream)
    layer.x = x.detach()[:CHECKED_TOKENS].clone()
    layer.x.grad, layer.y.grad = dx[:CHECKED_TOKENS], upstream[:CHECKED_TOKENS]
    for parameter, gradient in zip(layer.trainable.values(), gradients, strict=True):
        parameter.grad = gradient


def _agree(layer: Layer, wanted: Expected, whose: str) -> None:
    where = f"with {label(layer.case)} on it, before it is timed,"
    assert_agrees(layer, wanted, where=where, like=f"{whose}'s")


def work(case: Any) -> tuple[Tensor, Tensor]:
    """x, which requires a gradient, and the gradient of the output; both (tokens, d)."""
    x = case.x().requires_grad_()
    return x, case.upstream(x.shape)


def phases(contender: Contender, x: Tensor, upstream: Tensor) -> dict[str, Call]:
    """What is timed, by phase."""

    def evaluated() -> object:
        with torch.no_grad():
            return contender.layer(x)

    return {
        "forward": lambda: contender.layer(x),
        "forward+backward": lambda: contender.gradients(x, upstream),
        "eval": evaluated,
    }


def rows(
    variant: str, size: Size, wanted: tuple[str, ...], samples: int = SAMPLES, *, check: bool = True
) -> Iterator[Row]:
    """The wanted phases of every implementation of a variant at one size."""
    for case in cases(variant, size):
        base, adapted = contenders(case, check=check)
        x, upstream = work(case)
        calls = {name: phases(contender, x, upstream) for name, contender in adapted.items()}
        plain = phases(base, x, upstream)
        for phase in wanted:
            for contender in (base, *adapted.values()):
                contender.layer.train(phase != "eval")
            found = compare(plain[phase], {name: own[phase] for name, own in calls.items()}, samples)
            counted = {name: flops(own[phase]) - flops(plain[phase]) for name, own in calls.items()}
            others = [ratio for name, ratio in found.items() if name != "lora_lite"]
            for name, ratio in found.items():
                beside = standing(ratio, others[0]) if others and name == "lora_lite" else ""
                made = {**vars(size), **vars(ratio), "beside": beside, "flops": counted[name]}
                yield Row(label(case), name, threads=torch.get_num_threads(), phase=phase, **made)


def flops(call: Call) -> int:
    """Of the products of matrices in one call; what goes over the numbers one by one is not among them."""
    with _Flops() as counted:
        call()
    return int(counted.total)


class _Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """torch's own FlopCounterMode follows modules by hooks, which autograd.grad does not go with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **kwargs or {})
        if (count := flop_registry.get(function._overloadpacket)) is not None:
            self.total += count(*args, **kwargs or {}, out_val=made)
        return made
