"""Local response normalisation in C: lrn.c, compiled where there is a C compiler with OpenMP."""

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from alexnet_lit.nets.kernels.native import REALS, c_arguments, library

# Numbers in a tile, of which there are three buffers. Channels last, they fit into a first-level cache; channels first,
# into a second-level one, as rows have to be long and a multiple of a vector.
_LAST, _FIRST, _VECTOR = 1 << 12, 1 << 14, 32

logger = logging.getLogger("alexnet_lit")


def available(x: Tensor) -> bool:
    """Whether `forward` and `backward` take `x`."""
    return x.device.type == "cpu" and x.dtype in REALS and x.numel() > 0 and _kernels(x.dtype) is not None


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta: (B, C, ...) -> the same, in the dtype and memory format of `x`."""
    return _call("forward", (x,), size, alpha, beta, k, relu)


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    return _call("backward", (x, gradient), size, alpha, beta, k, relu)


def _call(name: str, given: tuple[Tensor, ...], size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Call a function of lrn.c. Returns its output, in the memory format of the first of the given tensors."""
    channels_last = given[0].is_contiguous(memory_format=torch.channels_last)
    x = given[0] if channels_last else given[0].contiguous()
    out = torch.empty_like(x)
    # Copies nothing in a net whose layers keep the memory format.
    others = [each if each.stride() == x.stride() else torch.empty_like(x).copy_(each) for each in given[1:]]
    images, channels, pixels = len(x), x.shape[1], x[0, 0].numel()
    if channels_last:
        images, pixels = images * pixels, 1
    if pixels == 1:
        width = min(max(1, _LAST // (channels + size - 1)), images)
    else:
        width = min(-(-_FIRST // (channels + size - 1) // _VECTOR) * _VECTOR, pixels)
    threads = torch.get_num_threads()
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
    scratch = x.new_empty(threads * 3 * (channels + size - 1) * width, dtype=exact)
    kernels = _kernels(x.dtype)
    assert kernels is not None
    inputs = c_arguments(x, *others, out, scratch, images, channels, pixels, width, size)
    reals = [REALS[x.dtype](number) for number in (alpha, beta, k)]
    kernels[name](*inputs, *reals, ctypes.c_int(relu), ctypes.c_int(threads))
    return out


@functools.cache
def _kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    kernels = library(Path(__file__).with_name("lrn.c"), dtype)
    if kernels is None:
        logger.info("no C compiler with OpenMP here, so local response normalisation takes 6 to 7 times as long")
    return kernels
