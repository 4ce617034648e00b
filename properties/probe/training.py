"""What the claims train with: steps sized to each tensor, random steps to compare with, an adapter whose
output is dropped.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lora_lite.calibration import first_argument
from properties.subjects import subject
from properties.subjects.attaching import Attached, usual_size
from strategies import gaussian

Loss = Callable[[nn.Module], Tensor]
Values = dict[str, Tensor]


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' trainable tensors as "layers.0.q_proj.A"."""
    return {
        f"{target}.{name}": tensor
        for target, tensors in subject.tensors(model).items()
        for name, tensor in tensors.items()
        if isinstance(tensor, nn.Parameter)
    }


def values(model: nn.Module) -> Values:
    """Copies of parameters()."""
    return {name: parameter.detach().clone() for name, parameter in parameters(model).items()}


def restore(model: nn.Module, to: Values) -> None:
    """Give the parameters these values, and no gradient."""
    with torch.no_grad():
        for name, parameter in parameters(model).items():
            parameter.copy_(to[name])
            parameter.grad = None


def initial(made: Attached) -> Values:
    """The parameters right after attach."""
    return {name: made.initial[target][own] for target, own, name in _names(made)}


def _names(made: Attached) -> Iterator[tuple[str, str, str]]:
    for target, tensors in made.initial.items():
        for own in tensors:
            yield target, own, f"{target}.{own}"


def relative(model: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Parameter groups of all that requires a gradient: every tensor steps by `rate` of what is usual for its
    entries.

    A step of 1e-3 is a lot for a row of A and nothing for delora's λ = 15.
    """
    return [{"params": [p], "lr": rate * usual_size(p)} for p in model.parameters() if p.requires_grad]


def fit(model: nn.Module, loss: Loss, groups: Iterable[Any], steps: int) -> list[float]:
    """AdamW on the mean loss, the rate falling to zero; the loss before each step."""
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    history = []
    for _ in range(steps):
        optimiser.zero_grad()
        now = loss(model).mean()
        history.append(float(now.detach()))
        # With the adapter disconnected nothing that requires a gradient is left.
        if now.requires_grad:
            now.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return history


def random_step(model: nn.Module, start: Values, end: Values, seed: int) -> None:
    """From `start`, each tensor as far as `end` is, in a random direction."""
    with torch.no_grad():
        for name, parameter in parameters(model).items():
            direction = gaussian(seed, f"random {name}", tuple(parameter.shape)).to(parameter)
            length = torch.linalg.vector_norm(end[name] - start[name])
            parameter.copy_(start[name] + direction * (length / torch.linalg.vector_norm(direction)))


@contextmanager
def disconnected(model: nn.Module) -> Iterator[None]:
    """Every adapted layer gives what its base alone gives for the input that it got."""
    with giving(model, lambda target, layer, x: layer.forward(x)):
        yield


@contextmanager
def giving(model: nn.Module, output: Callable[[str, nn.Module, Tensor], Any]) -> Iterator[None]:
    """Every adapted layer gives what `output` gives of its name, itself and the input that it got."""
    given: dict[str, Tensor] = {}

    def watch(target: str, layer: nn.Module) -> Iterator[Any]:
        def note(layer: nn.Module, args: Any, kwargs: Any) -> None:
            given[target] = first_argument(layer, args, kwargs)

        def instead(layer: nn.Module, args: Any, y: Tensor) -> Any:
            return output(target, layer, given.pop(target))

        yield layer.register_forward_pre_hook(note, with_kwargs=True, prepend=True)
        yield layer.register_forward_hook(instead)

    hooks = [hook for target in subject.tensors(model) for hook in watch(target, model.get_submodule(target))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def layer_inputs(
    model: nn.Module, targets: Iterable[str], run: Callable[[nn.Module], Any]
) -> dict[str, Tensor]:
    """What each target is given in one run, (tokens, d_in)."""
    caught: dict[str, Tensor] = {}
    hooks = []
    for target in targets:

        def note(layer: nn.Module, args: Any, kwargs: Any, target: str = target) -> None:
            x = first_argument(layer, args, kwargs)
            caught[target] = x.detach().reshape(-1, x.shape[-1])

        hooks.append(
            model.get_submodule(target).register_forward_pre_hook(note, with_kwargs=True, prepend=True)
        )
    try:
        with torch.no_grad():
            run(model)
    finally:
        for hook in hooks:
            hook.remove()
    return caught
