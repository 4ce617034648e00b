"""Runs a case once and writes down what every adapted layer saw, gave and learnt; and what the oracle says it
should have.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.calibration import first_argument
from properties.judging.tolerance import (
    PROBES,
    Bounded,
    coarser,
    finite,
    handed_over,
    perturbed,
    perturbed_all,
    scatter,
)
from properties.oracles import ORACLES
from properties.subjects.lora_lite import Case, adapter_dtype, implementation
from strategies import AdaptedLayer, AdaptedModel, gaussian
from strategies.options import Options, build_config

AnyCase = AdaptedLayer | AdaptedModel


@dataclass
class Layer:
    """One adapted layer after a forward and a backward pass.

    x (..., d_in), y (..., d_out), upstream = ∂loss/∂y and dx = this layer's share of ∂loss/∂x, in the base
    dtype; tensors: the adapter's, now; initial: the same as they stood right after attach; gradients by name.
    base_error (..., d_out): by how much the base's own output was off from x Wᵀ + b where it quantises x;
    else None.
    """

    name: str
    case: Case
    weight: Tensor
    bias: Tensor | None
    tensors: dict[str, Tensor]
    initial: dict[str, Tensor]
    x: Tensor = field(init=False)
    y: Tensor = field(init=False)
    base_error: Tensor | None = field(init=False, default=None)

    @property
    def dx(self) -> Tensor:
        assert self.x.grad is not None, f"{self.name}: no gradient reached the input"
        return self.x.grad

    @property
    def upstream(self) -> Tensor:
        assert self.y.grad is not None, f"{self.name}: no gradient reached the output"
        return self.y.grad

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: tensor for name, tensor in self.tensors.items() if isinstance(tensor, nn.Parameter)}

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Of every trainable tensor; one that got none counts as zero."""
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.trainable.items()}


@dataclass
class Subject:
    """A model with the adapter of a case on it, and what it was before."""

    case: AnyCase
    model: nn.Module
    base: dict[str, Tensor]
    initial: dict[str, dict[str, Tensor]]


def subject(case: AnyCase, model: nn.Module | None = None, **common: Any) -> Subject:
    """Build the base, attach, and train if the case says so."""
    model = case.build() if model is None else model
    base = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    # Inits draw from the global generator: the same case must give the same adapter.
    seed_inits(case.seed)
    implementation.attach(model, case, **common)
    initial = {
        target: {name: tensor.detach().clone() for name, tensor in tensors.items()}
        for target, tensors in implementation.tensors(model).items()
    }
    made = Subject(case, model, base, initial)
    if case.trained:
        train(made)
    return made


def seed_inits(seed: int) -> None:
    """As torch.manual_seed, without the stack traces that it formats where there is no accelerator (a sixth
    of a case).
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def train(made: Subject) -> None:
    """Move every trainable tensor away from init, by about half of its own size or of what its width makes
    usual.
    """
    with torch.no_grad():
        for target, tensors in implementation.tensors(made.model).items():
            for name, tensor in tensors.items():
                if isinstance(tensor, nn.Parameter):
                    step = gaussian(made.case.seed, f"train {target} {name}", tuple(tensor.shape))
                    tensor.copy_(tensor + 0.5 * usual_size(tensor) * step)


def usual_size(tensor: Tensor) -> float:
    """Of an entry: as large as they are, or as what its width makes usual."""
    usual: float = (tensor.shape[-1] if tensor.ndim else 1) ** -0.5
    return max(float(tensor.detach().double().square().mean().sqrt()) if tensor.numel() else 0.0, usual)


def observe(made: Subject, run: Callable[[nn.Module], Tensor] | None = None) -> list[Layer]:
    """Run the case's input through the model, and a gradient back; what each adapted layer saw, in the order
    of the model.
    """
    layers = {
        name: Layer(name, made.case, *_weight_and_bias(made.model, name), tensors, made.initial[name])
        for name, tensors in implementation.tensors(made.model).items()
    }
    watch(made.model, layers, run or default_run(made.case), made.case.seed)
    return list(layers.values())


def watch(
    model: nn.Module, layers: Mapping[str, Layer], run: Callable[[nn.Module], Tensor], seed: int
) -> Tensor:
    """One forward pass and a gradient back; fills in x and y of the layers, by name.

    Returns the model's output.
    """
    handles = []
    for name, layer in layers.items():
        module = model.get_submodule(name)
        # First in and last out, so that the adapter's own hooks lie between the two.
        handles.append(module.register_forward_pre_hook(_catch_input(layer), with_kwargs=True, prepend=True))
        handles.append(module.register_forward_hook(_catch_output(layer)))
    try:
        output = run(model)
        torch.autograd.backward(output, gaussian(seed, "upstream", tuple(output.shape), output.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return output


def default_run(case: AnyCase) -> Callable[[nn.Module], Tensor]:
    """Forward with the case's own input; the logits where the model returns more."""
    if isinstance(case, AdaptedLayer):
        x = case.x()
        return lambda model: model(x)

    def run(model: nn.Module) -> Tensor:
        output = model(**case.batch())
        return output if isinstance(output, Tensor) else output.logits

    return run


def learnt(model: nn.Module, case: AnyCase) -> dict[str, Tensor]:
    """The output on the case's input, and the gradient of every parameter that gets one, by name."""
    model.zero_grad()
    output = watch(model, {}, default_run(case), case.seed).detach()
    return {"output": output, **{name: p.grad for name, p in model.named_parameters() if p.grad is not None}}


def _weight_and_bias(model: nn.Module, name: str) -> tuple[Tensor, Tensor | None]:
    layer: Any = model.get_submodule(name)
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def _catch_input(layer: Layer) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = first_argument(module, args, kwargs)
        # A tensor of this layer's own: other readers of the same input must not add to its gradient.
        layer.x = given.clone() if given.requires_grad else given.detach().clone().requires_grad_()
        layer.x.retain_grad()
        named = {name: layer.x if value is given else value for name, value in kwargs.items()}
        return ((layer.x, *args[1:]), kwargs) if args else (args, named)

    return hook


def _catch_output(layer: Layer) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, y: Tensor) -> None:
        y.retain_grad()
        layer.y = y

    return hook


class OracleError(Exception):
    """An oracle is at fault, and not what it judges."""


@dataclass(frozen=True)
class Expected:
    """The oracle's output and gradients for one layer, each with its bound."""

    y: Bounded
    dx: Bounded
    gradients: dict[str, Bounded]


def adapts_input(variant: str) -> bool:
    """Whether it changes what the base layer is given, and not what it gives."""
    return ll.VARIANTS[variant].adapt_input is not ll.Variant.adapt_input


def has_oracle(variant: type[ll.Variant]) -> bool:
    """Whether there is a float64 formula to compare with; a user's variant need not have one."""
    return variant.name in ORACLES


def expected(layer: Layer, probes: int = PROBES, base: torch.dtype | None = None) -> Expected:
    """Evaluate the variant's float64 oracle, and its scatter, at what the layer saw.

    base: what the base computes in; None for its input's dtype, as it is without autocast.
    """
    base, adapter = base or layer.x.dtype, adapter_dtype(layer.case)
    y, dx, through_base, gradients = _evaluate(layer, base, x_dtype=base, probes=probes)
    overflowed = _overflowed(layer)
    if coarser(base, adapter) != base:
        # Only what happens inside the adapter may be as coarse as the adapter's dtype: its parameters'
        # gradients see x and the upstream gradient rounded to it, the base's output and dx never do.
        *_, gradients = _evaluate(layer, base, x_dtype=adapter, probes=probes)
    # Base and adapter each hand a gradient to x, rounded on its own: their sum may cancel, their errors and
    # overflows do not.
    W = layer.weight.double()
    own = scatter(dx, base, overflowed=overflowed)
    of_base = through_base @ W
    of_adapter = own.value - of_base
    of_base_error = handed_over(of_base, through_base.abs() @ W.abs(), base)
    error = own.error + of_base_error + handed_over(of_adapter, of_adapter.abs(), adapter, base)
    bounds = {
        n: scatter(g, layer.tensors[n].dtype, normwise=True, overflowed=overflowed)
        for n, g in gradients.items()
    }
    if adapts_input(layer.case.variant) and (lost := of_base_error.isinf()).any():
        # The base's gradient goes through the adapter, and its overflow too: over the token's row, and into
        # every parameter.
        error = error.masked_fill(lost.any(-1, keepdim=True), torch.inf)
        bounds = {
            n: Bounded(bound.value, torch.full_like(bound.error, torch.inf)) for n, bound in bounds.items()
        }
    return Expected(scatter(y, base, overflowed=overflowed), Bounded(own.value, error), bounds)


def expected_output(layer: Layer) -> Bounded:
    """expected(layer).y alone, bit for bit: half the work, as the oracle does not go backward."""
    base = layer.x.dtype
    with torch.no_grad():
        given = _given(layer, base, x_dtype=base, probes=PROBES)
        y = given.output(layer)
    given.refuse_broken_oracle(layer, [y])
    return scatter(y, base, overflowed=_overflowed(layer))


def _overflowed(layer: Layer) -> bool:
    """Whether it was handed an Inf or NaN, which another layer left."""
    return not finite((layer.x, layer.upstream))


@dataclass(frozen=True)
class _Given:
    """The oracle's arguments, as 1 + probes copies."""

    x: Tensor
    W: Tensor
    b: Tensor | None
    e: Tensor
    p: dict[str, Tensor]
    p0: dict[str, Tensor]

    def output(self, layer: Layer) -> Tensor:
        """y (1 + probes, tokens, d_out)."""
        case = layer.case
        return ORACLES[case.variant].forward(
            self.x, self.W, self.b, self.e, self.p, self.p0, options_of(case)
        )

    def refuse_broken_oracle(self, layer: Layer, results: Iterable[Tensor]) -> None:
        """NaN or Inf that were not among the arguments are the oracle's own."""
        if not finite(results) and finite(
            (self.x, self.W, self.b, self.e, *self.p.values(), *self.p0.values())
        ):
            raise OracleError(
                f"the oracle of {layer.case.variant} gives NaN or Inf on {layer.name}, where all that it was"
                f" given is finite: mend ORACLES[{layer.case.variant!r}], nothing can be said of the variant"
            )


def _given(layer: Layer, base: torch.dtype, x_dtype: torch.dtype, probes: int) -> _Given:
    adapter = adapter_dtype(layer.case)
    d_in, d_out = layer.x.shape[-1], layer.y.shape[-1]
    x = perturbed("x", layer.x.reshape(-1, d_in), x_dtype, probes, through=adapter)
    W = perturbed("W", layer.weight, base, probes)
    b = None if layer.bias is None else perturbed("b", layer.bias, base, probes)
    plain = torch.nn.functional.linear(x[0], W[0], None if b is None else b[0])
    change = (layer.y.detach().reshape(-1, d_out).double() - plain).nan_to_num(0, 0, 0)
    e = perturbed("e", plain, base, probes) - plain + perturbed("change", change, adapter, probes) - change
    if layer.base_error is not None:
        e += layer.base_error.reshape(-1, d_out)
    p = perturbed_all("now ", layer.tensors, adapter, probes)
    p0 = perturbed_all("initial ", layer.initial, adapter, probes)
    return _Given(x, W, b, e, p, p0)


def _evaluate(
    layer: Layer, base: torch.dtype, x_dtype: torch.dtype, probes: int
) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]:
    """y, dx, (1 + probes, tokens, ...); the gradient (tokens, d_out) at the base's own output; and gradients
    by name.
    """
    given = _given(layer, base, x_dtype, probes)
    upstream = layer.upstream.reshape(-1, layer.y.shape[-1])
    upstream = perturbed("upstream", upstream, x_dtype, probes, through=adapter_dtype(layer.case))
    inputs = [given.x, given.e, *(given.p[name] for name in layer.trainable)]
    for tensor in inputs:
        tensor.requires_grad_()
    y = given.output(layer)
    dx, through_base, *gradients = torch.autograd.grad(
        y, inputs, upstream, allow_unused=True, materialize_grads=True
    )
    if finite([upstream]):
        given.refuse_broken_oracle(layer, (y, dx, through_base, *gradients))
    return y.detach(), dx, through_base[0], dict(zip(layer.trainable, gradients, strict=True))


def options_of(case: Case) -> dict[str, Any]:
    """Every field of the case's config by name, defaults included: what the oracle is told."""
    return _options(case.variant, case.options)


@lru_cache(maxsize=4096)
def _options(variant: str, options: Options) -> dict[str, Any]:
    return dict(vars(build_config(variant, options)))
