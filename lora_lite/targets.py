"""Which layers an adapter goes on: by name pattern, by role in the residual stream, by layer index."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from lora_lite.config import AdapterConfig, Role
from lora_lite.errors import TargetError
from lora_lite.inventory import output_head, what_it_is
from lora_lite.linear import is_linear, linear_shape
from lora_lite.names import plain_modules

# Of a model, by name: what plain_modules() tells.
Modules = Mapping[str, nn.Module]


def find_targets(model: nn.Module, config: AdapterConfig) -> dict[str, nn.Module]:
    """The layers that `config` selects, by name in the order of the model.

    A layer reached by several names is taken once, under the first, when any of its names is selected.
    Raises TargetError where a pattern, role or index selects nothing, or a layer cannot carry an adapter.
    """
    # Walked once: a walk for each layer would make the time grow with the square of their number.
    modules = dict(plain_modules(model))
    names = _linear_names(modules)
    if not names:
        raise TargetError(
            f"{type(model).__name__} has no linear layer (no module with in_features and out_features, nor"
            " one with nf and a weight of that many columns, as transformers' Conv1D)."
        )
    # Each looks at all layers: its error is about its own setting, and not about what the others left.
    wanted = _by_name(model, modules, names, config)
    wanted &= _by_role(model, modules, names, config.target_roles)
    wanted &= _by_layer(modules, names, config.layers)
    if not wanted:
        raise TargetError(
            f"No layer fits all of target_names={config.target_names}, exclude_names={config.exclude_names}, "
            f"target_roles={config.target_roles}, layers={config.layers} together. {_sample(names)}"
        )
    refuse_uncalled(model, {name: modules[name] for name in wanted})
    _refuse_nested(wanted)
    return {name: modules[name] for name in names if name in wanted}


def _linear_names(modules: Modules) -> dict[str, list[str]]:
    """Each linear layer's first name, and all its names."""
    names: dict[nn.Module, list[str]] = {}
    # A layer that two parents hold has two names, and may be selected by either. A wrapper looks like the
    # layer inside of it, and has no name.
    for name, module in modules.items():
        if is_linear(module):
            names.setdefault(module, []).append(name)
    return {aliases[0]: aliases for aliases in names.values()}


def matches(pattern: str, name: str) -> bool:
    """Whether the pattern matches the whole name, or the whole of its end after a dot."""
    starts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
    return any(re.fullmatch(pattern, name[start:]) for start in starts)


def _selected(modules: Modules, names: dict[str, list[str]], pattern: str, field: str) -> set[str]:
    found = {name for name, aliases in names.items() if any(matches(pattern, alias) for alias in aliases)}
    if not found:
        other = [f"{name} is {what}" for name, what in _named_so(modules, pattern).items()]
        instead = f": {'; '.join(other[:3])}{'; …' if other[3:] else ''}" if other else ""
        raise TargetError(f"{field}: {pattern!r} matches no linear layer{instead}. {_sample(names)}")
    return found


def _named_so(modules: Modules, pattern: str) -> dict[str, str]:
    """What the pattern matches besides: modules, and parameters by themselves; and what each of them is."""
    found = dict[str, str]()
    for name, module in modules.items():
        if name and matches(pattern, name):
            found[name] = what_it_is(module)
        for own in module._parameters:
            if matches(pattern, full := f"{name}.{own}" if name else own):
                found[full] = f"a parameter of {what_it_is(module)}"
    return found


def _by_name(
    model: nn.Module, modules: Modules, names: dict[str, list[str]], config: AdapterConfig
) -> set[str]:
    named = _any_of(modules, names, config.target_names, "target_names")
    wanted = named if config.target_names else set(names) - _output_head(model, modules, names)
    return wanted - _any_of(modules, names, config.exclude_names, "exclude_names")


def _any_of(modules: Modules, names: dict[str, list[str]], patterns: tuple[str, ...], field: str) -> set[str]:
    return set().union(*(_selected(modules, names, pattern, field) for pattern in patterns))


def _output_head(model: nn.Module, modules: Modules, names: Iterable[str]) -> set[str]:
    head = output_head(model)
    return {name for name in names if modules[name] is head}


def residual_width(model: nn.Module, layers: Modules) -> int:
    """Width of the residual stream: the config's hidden_size where there is one, else the width that most
    linear layers have at their input or output.

    Raises TargetError where two widths are touched equally often.
    """
    config = getattr(model, "config", None)
    # A model of text and images has the width of its text part in a config of its own.
    if callable(text_config := getattr(config, "get_text_config", None)):
        config = text_config()
    if isinstance(width := getattr(config, "hidden_size", None), int):
        return width
    touched: Counter[int] = Counter()
    for layer in layers.values():
        shape = linear_shape(layer)
        # A set: a square layer touches its width once.
        touched.update({shape.d_in, shape.d_out})
    ranking = touched.most_common(2)
    if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
        widths = " and ".join(str(width) for width, _ in ranking)
        raise TargetError(
            f"target_roles: cannot tell the residual width, {ranking[0][1]} layers touch each of {widths}. "
            "Use target_names, or give the model a config with hidden_size."
        )
    return ranking[0][0]


def _by_role(
    model: nn.Module, modules: Modules, names: dict[str, list[str]], roles: tuple[Role, ...]
) -> set[str]:
    """A layer as wide as the residual stream on both sides is a reader and a writer."""
    if not roles:
        return set(names)
    width = residual_width(model, {name: modules[name] for name in names})
    found: dict[Role, set[str]] = {"reader": set(), "writer": set(), "inner": set()}
    for name in names:
        shape = linear_shape(modules[name])
        if shape.d_in == width:
            found["reader"].add(name)
        if shape.d_out == width:
            found["writer"].add(name)
        if width not in (shape.d_in, shape.d_out):
            found["inner"].add(name)
    for role in roles:
        if not found[role]:
            raise TargetError(
                f"target_roles: no layer is {role!r} at the residual width {width}. {_sample(names)}"
            )
    return set().union(*(found[role] for role in roles))


def layer_index(modules: Modules, name: str) -> int | None:
    """The index of the model's layer that `name` lies in, or None.

    It is the outermost index into a ModuleList, or into a Sequential of several children of one type: blocks,
    not a pipeline of different parts or of one. An expert's index lies deeper. Without such a container the
    outermost number counts.
    """
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
    for i in numbers:
        container = modules[".".join(parts[:i])]
        if isinstance(container, nn.ModuleList):
            return int(parts[i])
        if not isinstance(container, nn.Sequential):
            continue
        if len(container) > 1 and len({type(child) for child in container}) == 1:
            return int(parts[i])
    return int(parts[numbers[0]]) if numbers else None


def _by_layer(modules: Modules, names: dict[str, list[str]], layers: tuple[int, ...] | None) -> set[str]:
    if layers is None:
        return set(names)
    indices = {name: {layer_index(modules, alias) for alias in aliases} for name, aliases in names.items()}
    present = {i for found in indices.values() for i in found if i is not None}
    if absent := sorted(set(layers) - present):
        here = (
            f"the model has {sorted(present)}"
            if present
            else "no name of a linear layer here has a number in it"
        )
        raise TargetError(f"layers: no linear layer has index {absent}; {here}.")
    return {name for name, found in indices.items() if found & set(layers)}


def refuse_uncalled(model: nn.Module, wanted: Modules) -> None:
    """Raise TargetError on a layer whose forward nobody calls.

    nn.MultiheadAttention reads out_proj's weight and never calls it, and TorchScript compiles calls without
    their hooks, so that a hook there would do nothing.
    """
    scripts = (module for module in model.modules() if isinstance(module, torch.jit.ScriptModule))
    compiled = {part for script in scripts for part in script.modules()}
    uncalled = {module.out_proj for module in model.modules() if isinstance(module, nn.MultiheadAttention)}
    for name in sorted(wanted):
        if wanted[name] in compiled:
            raise TargetError(
                f"{name or 'the model itself'}: found TorchScript, which calls a layer without its hooks, so"
                " that an adapter there would do nothing. Attach before scripting, or leave the layer out"
                f" with exclude_names=({re.escape(name)!r},)."
            )
        if uncalled and wanted[name] in uncalled:
            raise TargetError(
                f"{name}: nn.MultiheadAttention never calls its out_proj, so an adapter there would do"
                f" nothing. Leave it out with exclude_names=({re.escape(name)!r},)."
            )


def _refuse_nested(wanted: set[str]) -> None:
    """Raise TargetError on a linear layer inside of another one, as a wrapper of somebody's own holds it.

    Which of the two computes cannot be told; an adapter on each would count twice.
    """
    for name in sorted(wanted):
        parts = name.split(".")
        outer = {".".join(parts[:i]) for i in range(len(parts) if name else 0)} & wanted
        if outer:
            around = min(outer)
            raise TargetError(
                f"{around or 'the model itself'} and {name}: found one linear layer inside of the other,"
                f" wanted an adapter on the one that computes. Leave the other out with exclude_names,"
                f" such as ({re.escape(around)!r},)."
            )


def _sample(names: dict[str, list[str]]) -> str:
    shown = ", ".join(list(names)[:6])
    return f"Linear layers here: {shown}{', …' if len(names) > 6 else ''} ({len(names)} in all)."
