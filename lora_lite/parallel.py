"""Models that torch has wrapped or split over processes: DistributedDataParallel and fully_shard."""

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


def writes(model: nn.Module) -> bool:
    """Whether this process is the one to write what was gathered; every process is, where nothing is sharded."""
    return not any(map(is_sharded, model.parameters())) or torch.distributed.get_rank() == 0
