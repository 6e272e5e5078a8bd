"""Memory for one batch of images after the other."""

import math
import weakref
from collections import deque

import torch
from torch import Tensor

_LARGEST = 1 << 27  # bytes; larger batches are rare, and too much to hold back


class Memory:
    """Hands out memory on the CPU, and the same again when no tensor is left in it.

    What the system hands out for the first time takes several times as long to fill as to fill again, and what is freed
    goes back to it sooner or later.
    """

    def __init__(self) -> None:
        self._free: deque[Tensor] = deque(maxlen=2)  # while one batch is trained on, the next is made

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous tensor of any content."""
        size = math.prod(shape) * dtype.itemsize
        if size > _LARGEST:
            return torch.empty(shape, dtype=dtype)
        block = self._free.pop() if self._free else None
        if block is None or block.numel() < size:
            block = torch.empty(size, dtype=torch.uint8)
        # What is made of an array holds it as long as any tensor, view or gradient needs the memory.
        array = block[:size].numpy()
        weakref.finalize(array, self._free.append, block).atexit = False
        return torch.from_numpy(array).view(dtype).view(shape)
