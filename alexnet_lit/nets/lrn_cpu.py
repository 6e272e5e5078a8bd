"""Local response normalisation by lrn.c, compiled where a C compiler with OpenMP is at hand."""

import ctypes
import functools
import logging
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_name("lrn.c")
# The library is made for this machine by each process anew, in a third of a second: one kept on disk would have to be
# known by compiler and processor, and machines that share a disk differ in those.
# Not -ffast-math: linked into a library, it makes the whole process take denormal numbers for zero.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
_REALS = {torch.float32: ("float", ctypes.c_float), torch.float64: ("double", ctypes.c_double)}
_TILE = 1 << 14  # numbers: three buffers of floats are 192 KiB, within a second-level cache

logger = logging.getLogger("alexnet_lit")


def available(x: Tensor) -> bool:
    """Whether `forward` and `backward` take `x`."""
    return x.device.type == "cpu" and x.dtype in _REALS and x.numel() > 0 and _library(x.dtype) is not None


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta: (B, C, ...) -> the same, in the memory format of `x`."""
    x = _dense(x)
    out = torch.empty_like(x)
    _call("forward", (x, out), size, alpha, beta, k, relu)
    return out


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    x = _dense(x)
    out = torch.empty_like(x)
    if gradient.stride() != x.stride():  # not in a net whose layers keep the memory format
        gradient = torch.empty_like(x).copy_(gradient)
    _call("backward", (x, gradient, out), size, alpha, beta, k, relu)
    return out


def _dense(x: Tensor) -> Tensor:
    return x if _channels_last(x) else x.contiguous()


def _channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _call(name: str, tensors: tuple[Tensor, ...], size: int, alpha: float, beta: float, k: float, relu: bool) -> None:
    x = tensors[0]
    images, channels, pixels = len(x), x.shape[1], x[0, 0].numel()
    if _channels_last(x):
        images, pixels = images * pixels, 1
    width = min(max(1, _TILE // channels), pixels)
    threads = torch.get_num_threads()
    scratch = x.new_empty(threads * 3 * (channels + size - 1) * width)
    library = _library(x.dtype)
    assert library is not None
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (*tensors, scratch)]
    sizes = [ctypes.c_size_t(number) for number in (images, channels, pixels, width, size)]
    reals = [_REALS[x.dtype][1](number) for number in (alpha, beta, k)]
    library[name](*pointers, *sizes, *reals, ctypes.c_int(relu), ctypes.c_int(threads))


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """lrn.c for numbers of `dtype`, or None where it can't be compiled or loaded."""
    real, _ = _REALS[dtype]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    try:
        with tempfile.TemporaryDirectory(prefix="alexnet_lit_") as folder:
            target = Path(folder) / f"lrn_{real}.so"
            command = [*compiler, *_FLAGS, f"-DREAL={real}", str(_SOURCE), "-o", str(target), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=60)
            return ctypes.CDLL(str(target))  # Python and the system keep it open when the file is gone
    except (OSError, subprocess.SubprocessError) as error:
        logger.info("no C compiler with OpenMP here, so local response normalisation takes 7 to 8 times as long")
        logger.debug("%s: %s", " ".join(compiler), getattr(error, "stderr", None) or error)
        return None
