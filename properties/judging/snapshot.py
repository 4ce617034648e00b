"""What a model is, whole: for claims that it is as before."""

from collections.abc import Callable, Iterable
from reprlib import repr as short
from typing import Any

from torch import Tensor, nn

from lora_lite.hooks import begin, end
from properties.judging.assertions import assert_holds, bits
from properties.subjects import subject

# What is told of, by the name of a parameter, buffer or module.
State = dict[str, dict[str, Any]]
# The hooks of lora_lite's on the model itself.
NOTICING = (begin, end)


def snapshot_of(model: nn.Module) -> State:
    """Which parameters, buffers and modules there are, their bits, flags, modes and attributes, and the hooks
    themselves.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules())
    held = {**parameters, **dict(model.named_buffers(remove_duplicate=False))}
    return {
        "identity": {name: id(tensor) for name, tensor in held.items()},
        "bits": {name: (tensor.dtype, bits(tensor).tolist()) for name, tensor in held.items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in parameters.items()},
        "training": {name: module.training for name, module in modules.items()},
        "hooks": hooks_of(model),
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
    }


def hooks_of(model: nn.Module) -> dict[str, list[Callable[..., Any]]]:
    """What each module calls before and after itself, by the module's name."""
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    return {
        name: [hook for kind in kinds for hook in getattr(m, kind).values()]
        for name, m in model.named_modules()
    }


def hooked(model: nn.Module) -> list[str]:
    """The modules with hooks, once for each; those by which lora_lite notices a forward aside."""
    return sorted(name for name, hooks in hooks_of(model).items() for hook in hooks if hook not in NOTICING)


def assert_as_before(model: nn.Module, before: State, *, claim: str) -> None:
    """Nothing of the model is other than when snapshot_of() told."""
    for what, now in snapshot_of(model).items():
        was = before[what]
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        told = [f"{name or 'the model'}: {change(now.get(name), was.get(name))}" for name in changed[:3]]
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        assert_holds(not changed, claim=f"{claim}: {what} changed: {'; '.join(told)}{more}")


def change(now: Any, was: Any) -> str:
    """In short; of names and hooks, those that came and those that went."""
    if not (isinstance(now, list) and isinstance(was, list) and named(now) != named(was)):
        return f"{short(now)}, was {short(was)}"
    new, gone = named(one for one in now if one not in was), named(one for one in was if one not in now)
    told = [f"{what} {', '.join(names)}" for what, names in (("gained", new), ("lost", gone)) if names]
    return " and ".join(told) or f"{short(now)}, was {short(was)}"


def named(held: Iterable[Any]) -> list[str]:
    return [getattr(one, "__qualname__", str(one)) for one in held]


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer of the model but the adapters'."""
    own = {id(t) for tensors in subject.tensors(model).values() for t in tensors.values()}
    named = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    state = set(model.state_dict())
    return {
        name: tensor.detach() for name, tensor in named.items() if id(tensor) not in own and name in state
    }
