"""Runs an adapted model once and writes down what every adapted layer was given, gave and learnt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.calibration import first_argument
from properties.subjects import subject
from properties.subjects.attaching import AnyCase, Attached
from properties.subjects.protocol import Case
from strategies import AdaptedLayer, gaussian, weight_and_bias


class NoGradientError(Exception):
    """A layer gives an output from which nothing flows back, or takes one to which nothing does."""


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
        if self.x.grad is None:
            raise NoGradientError(f"no gradient reaches the input of layer {self.name}")
        return self.x.grad

    @property
    def upstream(self) -> Tensor:
        if self.y.grad is None:
            raise NoGradientError(f"no gradient reaches the output of layer {self.name}")
        return self.y.grad

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        return {name: tensor for name, tensor in self.tensors.items() if isinstance(tensor, nn.Parameter)}

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Of every trainable tensor; one that got none counts as zero."""
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.trainable.items()}


def run_layers(attached: Attached, run: Callable[[nn.Module], Tensor] | None = None) -> list[Layer]:
    """Run the case's input through the model, and a gradient back; what each adapted layer saw, in the order
    of the model.
    """
    model = attached.model
    layers = {
        name: Layer(
            name,
            attached.case,
            *weight_and_bias(model.get_submodule(name)),
            tensors,
            attached.initial[name],
        )
        for name, tensors in subject.tensors(model).items()
    }
    watch(attached.model, layers, run or default_run(attached.case), attached.case.seed)
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
        if not output.requires_grad:
            raise NoGradientError("the output of the model takes no gradient: the graph is cut")
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
        if not y.requires_grad:
            raise NoGradientError(
                f"the output of layer {layer.name} takes no gradient, to its input or to a tensor: the graph"
                " is cut"
            )
        y.retain_grad()
        layer.y = y

    return hook
