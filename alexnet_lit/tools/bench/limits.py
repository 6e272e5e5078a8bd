"""What a device does at its best: a matrix product, and on a GPU a copy from its memory to its memory."""

from collections.abc import Callable, Mapping
from statistics import median

import torch

from alexnet_lit.nets.kernels.native import bf16_units

_PRODUCT, _HALF, _COPY = "matrix product", "bf16 matrix product", "copy"
_BYTES = 1 << 30  # that a copy reads, and writes: far more than a cache holds


def has_bf16(device: str) -> bool:
    """Whether there is something to measure in bfloat16: elsewhere a CPU is many times as slow with it."""
    return device == "cuda" or bool(bf16_units())


def precisions(device: str) -> list[str]:
    """What runs are measured with: a GPU's own choice; on a CPU float32, and bf16 where it has instructions for it."""
    if device == "cuda":
        return ["auto"]
    return ["32-true", "bf16-mixed"] if has_bf16(device) else ["32-true"]


class Limits:
    """Cases to be timed among others, and what their seconds come to.

    On a CPU a product of 4096 x 4096 in float32, and in bfloat16 where it has instructions for that; on cuda one of
    8192 x 8192 in bfloat16. Of random numbers: zeros would take less power, and so less time.
    """

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"
        self.size = 8192 if self.on_gpu else 4096
        self.cases: dict[str, Callable[[], object]] = {}
        if not self.on_gpu:
            self._add(_PRODUCT, torch.float32, device)
        if has_bf16(device):
            self._add(_HALF, torch.bfloat16, device)
        if self.on_gpu:
            source, target = (torch.empty(_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
            self.cases[_COPY] = lambda: target.copy_(source)

    def _add(self, name: str, dtype: torch.dtype, device: str) -> None:
        a, b = (torch.randn(self.size, self.size, device=device).to(dtype) for _ in range(2))
        self.cases[name] = lambda: a @ b

    def shares(self, seconds: Mapping[str, list[float]], speed: float | None, *, half: bool) -> dict[str, str]:
        """A column for each product, with `speed` (GFLOP/s) as a percentage of it; None leaves them empty.

        half: the speed is one in bfloat16. On a GPU all are beside the product in bfloat16.
        """
        columns = {}
        for name, label in ((_PRODUCT, "a matrix product's"), (_HALF, "a bf16 matrix product's")):
            if name in self.cases:
                product = 2e-9 * self.size**3 / median(seconds[name])
                words = f"{product / 1e3:.0f} TFLOP/s" if self.on_gpu else f"{product:.0f} GFLOP/s"
                told = speed is not None and (self.on_gpu or half == (name == _HALF))
                columns[f"% of {label} {words}"] = f"{100 * speed / product:.0f}" if told and speed else ""
        return columns

    def bandwidth(self, seconds: Mapping[str, list[float]]) -> list[str]:
        """Of a GPU's memory, as a condition; nothing of a CPU."""
        if not self.on_gpu:
            return []
        return [f"a copy within the card's memory {2e-9 * _BYTES / median(seconds[_COPY]):.0f} GB/s, read and written"]
