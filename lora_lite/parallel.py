"""Models that torch has wrapped or split over processes: DistributedDataParallel and fully_shard."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lora_lite.errors import TargetError


def refuse_split(model: nn.Module) -> None:
    """Raise TargetError on a model that is split over processes already.

    Both engines synchronise the parameters that they find when they are set up. Those of a later adapter
    would be trained by every process on its own.
    """
    for name, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            raise TargetError(
                f"{name or 'the model'}: DistributedDataParallel is around it already. {_REMEDY}"
            )
        for parameter, tensor in module._parameters.items():
            if tensor is not None and is_sharded(tensor):
                where = f"{name}.{parameter}" if name else parameter
                raise TargetError(f"{where}: sharded already, by fully_shard or as a DTensor. {_REMEDY}")


_REMEDY = (
    "It would not synchronise a new adapter's gradients. Attach or load first, on the plain model, then wrap"
    " or shard it."
)


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is one process's part of a tensor: a torch.distributed.tensor.DTensor."""
    # Not by type: to import torch.distributed.tensor takes a second, which a single process need not wait.
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, which all its processes have to ask for together; any other as it is."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # a DTensor's
    return whole


def shard(model: nn.Module) -> Any:
    """One of the parameters of a model that is split over processes, or None."""
    return next(filter(is_sharded, model.parameters()), None)


def refuse_disagreement(part: Any, digest: str) -> None:
    """Raise TargetError where the processes of a sharded model made different digests of what they gathered.
    part: its shard().

    fully_shard takes each process's own share of every parameter and leaves buffers alone: adapters that were
    attached from different seeds or data are stitched together, or stay apart. (DistributedDataParallel
    copies the first process's.)
    """
    for group in _groups(part):
        if len(set(digests := _told(digest, group))) > 1:
            raise TargetError(
                f"the processes hold adapters that differ: digests {digests}, wanted one. Attach in every"
                " process from the same seed and calibration data, or load the same file, before"
                " fully_shard; then train again."
            )


def write_once(part: Any, write: Callable[[], None]) -> None:
    """Call `write` in the first of the processes that share a sharded model, in the only one of any other.
    part: the model's shard(), None for any other.

    Every process returns when it is done, and raises what it raised.
    """
    failure: Exception | None = None
    if is_first(part):
        try:
            write()
        except Exception as error:
            # Raised below, once all know of it: the others wait to be told.
            failure = error
    # One dimension of the mesh after the other, until every process has it.
    for group in _groups(part):
        failure = next(filter(None, _told(failure, group)), None)
    if failure is not None:
        raise failure


def is_first(part: Any) -> bool:
    """Whether this process leads those that share the model: they need not be all there are. True where
    nothing is sharded.
    """
    return part is None or not any(part.device_mesh.get_coordinate())


def _groups(part: Any) -> Sequence[Any]:
    """The groups of processes that share a sharded model, one a dimension of their mesh; none for any other
    model.
    """
    return () if part is None else part.device_mesh.get_all_groups()


def _told(mine: Any, group: Any) -> list[Any]:
    """What each process of the group has."""
    all_of_them: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(all_of_them, mine, group=group)
    return all_of_them
