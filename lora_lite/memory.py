"""The bytes of tensors as they lie in memory: numpy knows no bfloat16, and is no dependency."""

import ctypes
from typing import Any

from torch import Tensor


def raw(tensor: Tensor) -> Any:
    """A writable view of the bytes of a contiguous tensor on the CPU, good as long as the tensor lives."""
    size = tensor.numel() * tensor.element_size()
    return (ctypes.c_char * size).from_address(tensor.data_ptr()) if size else bytearray()
