"""Enlarging by pixels.c, compiled where a C compiler with OpenMP is at hand."""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from alexnet_lit.data.memory import Memory
from alexnet_lit.nets.kernels.native import library, pointers, sizes

Taps = tuple[Tensor, Tensor]  # places int32 and weights, (1 or B, S, 2): what each px of a window is made of

_memory = Memory()


def available(images: Tensor, dtype: torch.dtype) -> bool:
    """Whether `enlarge` takes `images` and makes numbers of `dtype` of them."""
    plain = images.device.type == "cpu" and images.dtype == torch.uint8 and not torch.compiler.is_compiling()
    return plain and dtype in (torch.float32, torch.float64) and images.numel() > 0 and _kernels(dtype) is not None


def enlarge(images: Tensor, scale: Tensor, shift: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Interpolate between values `v * scale + shift` of images: uint8 (B, C, H, W) -> (B, C, S, S).

    scale, shift: (B, C), in the dtype of the result. rows, columns: what each px of the window of all images, or of
    each, is made of; a px behind the last is black.
    """
    batch, channels, height, width = images.shape
    windows, size, _ = rows[0].shape
    out = _memory.empty((batch, channels, size, size), scale.dtype)
    threads = torch.get_num_threads()
    scratch = scale.new_empty(threads * ((height + 1) * size + width + 1))
    inputs = [tensor.contiguous() for tensor in (images, scale, shift, *rows, *columns)]
    numbers = sizes(batch * channels, batch * channels // windows, height, width, size)
    kernels = _kernels(scale.dtype)
    assert kernels is not None
    kernels.enlarge(*pointers(inputs[0], out, *inputs[1:], scratch), *numbers, ctypes.c_int(threads))
    return out


@functools.cache
def _kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    return library(Path(__file__).with_name("pixels.c"), dtype)
