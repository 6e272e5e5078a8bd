"""Local response normalisation in C: lrn.c, compiled where there is a C compiler with OpenMP."""

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from alexnet_lit.nets.kernels.native import REALS, library, pointers, sizes

# Numbers in a tile, of which there are three buffers. Channels last, they fit into a first-level cache; channels first,
# into a second-level one, as rows have to be long and a multiple of a vector.
_LAST, _FIRST, _VECTOR = 1 << 12, 1 << 14, 32

logger = logging.getLogger("alexnet_lit")


def available(x: Tensor) -> bool:
    """Whether `forward` and `backward` take `x`."""
    return x.device.type == "cpu" and x.dtype in REALS and x.numel() > 0 and _kernels(x.dtype) is not None


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta: (B, C, ...) -> the same, in the dtype and memory format of `x`."""
    x = x if _channels_last(x) else x.contiguous()
    out = torch.empty_like(x)
    _call("forward", (x, out), size, alpha, beta, k, relu)
    return out


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    x = x if _channels_last(x) else x.contiguous()
    out = torch.empty_like(x)
    if gradient.stride() != x.stride():  # not in a net whose layers keep the memory format
        gradient = torch.empty_like(x).copy_(gradient)
    _call("backward", (x, gradient, out), size, alpha, beta, k, relu)
    return out


def _channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _call(name: str, tensors: tuple[Tensor, ...], size: int, alpha: float, beta: float, k: float, relu: bool) -> None:
    x = tensors[0]
    images, channels, pixels = len(x), x.shape[1], x[0, 0].numel()
    if _channels_last(x):
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
    numbers = sizes(images, channels, pixels, width, size)
    reals = [REALS[x.dtype](number) for number in (alpha, beta, k)]
    kernels[name](*pointers(*tensors, scratch), *numbers, *reals, ctypes.c_int(relu), ctypes.c_int(threads))


@functools.cache
def _kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    kernels = library(Path(__file__).with_name("lrn.c"), dtype)
    if kernels is None:
        logger.info("no C compiler with OpenMP here, so local response normalisation takes 6 to 7 times as long")
    return kernels
