"""Models that torch has wrapped or split over processes: DistributedDataParallel and fully_shard."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lora_lite.errors import TargetError


def refuse_split(model: nn.Module) -> None:
    """Raise TargetError on a model that is split over processes already.

    Both engines synchronise the parameters that they find when they are set up. Those of a later adapter would be trained by
    every process on its own.
    """
    for name, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            raise TargetError(f"{name or 'the model'}: DistributedDataParallel is around it already. {_REMEDY}")
        for parameter, tensor in module.named_parameters(recurse=False):
            if is_sharded(tensor):
                where = f"{name}.{parameter}" if name else parameter
                raise TargetError(f"{where}: sharded already, by fully_shard or as a DTensor. {_REMEDY}")


_REMEDY = "It would not synchronise a new adapter's gradients. Attach or load first, on the plain model, then wrap or shard it."


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is one process's part of a tensor: a torch.distributed.tensor.DTensor."""
    return hasattr(tensor, "full_tensor")


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, which all its processes have to ask for together; any other as it is."""
    whole: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]  # a DTensor's
    return whole


def refuse_disagreement(model: nn.Module, digest: str) -> None:
    """Raise TargetError where the processes of a sharded model made different digests of what they gathered.

    fully_shard takes each process's own share of every parameter and leaves buffers alone: adapters that were attached from
    different seeds or data are stitched together, or stay apart. (DistributedDataParallel copies the first process's.)
    """
    sharded = next(filter(is_sharded, model.parameters()), None)
    for group in sharded.device_mesh.get_all_groups() if sharded is not None else ():  # type: ignore[attr-defined]  # a DTensor's
        digests: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(digests, digest, group=group)
        if len(set(digests)) > 1:
            raise TargetError(
                f"the processes hold adapters that differ: digests {digests}, wanted one. Attach in every process from "
                "the same seed and calibration data, or load the same file, before fully_shard; then train again."
            )


def writes(model: nn.Module) -> bool:
    """Whether this process is the one to write what was gathered; every process is, where nothing is sharded."""
    return not any(map(is_sharded, model.parameters())) or torch.distributed.get_rank() == 0
