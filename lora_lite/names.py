"""Names of a plain model's modules and tensors, whatever wraps them: files fit the plain one."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from lora_lite.errors import TargetError
from lora_lite.spec import Variant

# A module's name, the module, and the name of one of its buffers.
Place = tuple[str, nn.Module, str]

# The child under which a target layer holds its adapter, and the attribute under which a model holds its
# handles.
CHILD = "lora_lite"
STATE = "_lora_lite"

# A module may have several names, as a block that runs a hundred times has.
NAMES_AT_LEAST, NAMES_EACH = 1000, 50

# Under which name torch.compile, checkpoint_wrapper and FullyShardedDataParallel keep what they wrap; and
# wrappers that call it "module", as a plain model may call a child too.
INNER = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
WRAPPERS = (DistributedDataParallel, DataParallel, AveragedModel)


def without_wrappers(module: nn.Module) -> nn.Module:
    """What lies inside of all wrappers, which nest; a module that is none as it is."""
    for name in ("module",) if isinstance(module, WRAPPERS) else INNER:
        # What TorchScript has in the place of a dict has no get().
        if name in module._modules and (inner := module._modules[name]) is not None:
            return without_wrappers(inner)
    return module


def plain_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module by name, under each of its names, wrappers left out; in the order of named_modules().

    Raises TargetError where parts hold one another in so many ways that there is no end of names.
    """
    seen = set[nn.Module]()
    for count, (name, module) in enumerate(_paths(model, "", ())):
        seen.add(module)
        if count > NAMES_AT_LEAST + NAMES_EACH * len(seen):
            raise TargetError(
                f"{name[:80]}: found more than {count} names for {len(seen)} modules, which hold one another,"
                " wanted a tree of modules. Keep such links out of the modules, in a list or a tuple."
            )
        yield name, module


def _paths(model: nn.Module, name: str, above: tuple[nn.Module, ...]) -> Iterator[tuple[str, nn.Module]]:
    model = without_wrappers(model)
    # A part may hold what it is a part of: there it ends.
    if model in above:
        return
    yield name, model
    for own, child in model._modules.items():
        if child is not None:
            yield from _paths(child, f"{name}.{own}" if name else own, (*above, model))


def base_modules(model: nn.Module, without: Collection[str] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Each of the model's own modules under its first name, adapters aside, and the modules `without` with
    all that is in them.
    """
    named, without = list(plain_modules(model)), frozenset(without)
    seen = set[nn.Module]()
    for name, module in named:
        if name in without or isinstance(module, Variant):
            seen.update(module.modules())
    for name, module in named:
        if module not in seen:
            seen.add(module)
            yield name, module


def base_parameters(model: nn.Module, without: Collection[str] = ()) -> Iterator[tuple[str, nn.Parameter]]:
    """The model's own parameters by name, adapters and the modules `without` aside; a tied one once."""
    seen = set[nn.Parameter]()
    for name, module in base_modules(model, without):
        for own, parameter in module._parameters.items():
            if parameter is not None and parameter not in seen:
                seen.add(parameter)
                yield f"{name}.{own}" if name else own, parameter


def base_buffers(model: nn.Module, without: Collection[str] = ()) -> Iterator[tuple[str, Tensor]]:
    """The model's own persistent buffers by name, adapters and the modules `without` aside. Others are
    caches, made anew with the model.
    """
    for name, module, own in buffer_places(model, without):
        yield f"{name}.{own}" if name else own, module._buffers[own]  # type: ignore[misc]  # it is there


def buffer_places(model: nn.Module, without: Collection[str] = ()) -> Iterator[Place]:
    """Where base_buffers() are."""
    for name, module in base_modules(model, without):
        for own, buffer in module._buffers.items():
            if buffer is not None and own not in getattr(module, "_non_persistent_buffers_set", ()):
                yield name, module, own


def watched(model: nn.Module) -> list[Place]:
    """Where the base keeps buffers that a state dict has. TorchScript shows another tensor at every look."""
    return [place for place in buffer_places(model) if not isinstance(place[1], torch.jit.ScriptModule)]
