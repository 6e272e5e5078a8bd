"""What a device does at its best: a matrix product, and on a GPU a copy from its memory to its memory."""

from collections.abc import Callable, Mapping
from statistics import median

import torch

_PRODUCT, _COPY = "matrix product", "copy"
_BYTES = 1 << 30  # that a copy reads, and writes: far more than a cache holds


class Limits:
    """Cases to be timed among others, and what their seconds come to.

    On a CPU a product of 4096 x 4096 in float32, on cuda one of 8192 x 8192 in bfloat16, of random numbers: zeros would
    take less power, and so less time.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        self.size, dtype = (8192, torch.bfloat16) if self.on_gpu else (4096, torch.float32)
        a, b = (torch.randn(self.size, self.size, device=device).to(dtype) for _ in range(2))
        self.cases: dict[str, Callable[[], object]] = {_PRODUCT: lambda: a @ b}
        if self.on_gpu:
            source, target = (torch.empty(_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
            self.cases[_COPY] = lambda: target.copy_(source)

    def product(self, seconds: Mapping[str, list[float]]) -> float:
        """GFLOP/s."""
        return 2e-9 * self.size**3 / median(seconds[_PRODUCT])

    def words(self, seconds: Mapping[str, list[float]]) -> str:
        """The product's speed, for the head of a column."""
        speed = self.product(seconds)
        return (
            f"a bf16 matrix product's {speed / 1e3:.0f} TFLOP/s"
            if self.on_gpu
            else f"a matrix product's {speed:.0f} GFLOP/s"
        )

    def bandwidth(self, seconds: Mapping[str, list[float]]) -> list[str]:
        """Of a GPU's memory, as a condition; nothing of a CPU."""
        if not self.on_gpu:
            return []
        return [f"a copy within the card's memory {2e-9 * _BYTES / median(seconds[_COPY]):.0f} GB/s, read and written"]
