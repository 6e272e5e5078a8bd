"""C code compiled at run time, and what else depends on this machine: bfloat16 units, glibc's memory allocator."""

import ctypes
import functools
import logging
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Each process compiles for its own machine, in a third of a second: machines that share a disk may differ.
# Not -ffast-math: in a library it makes the whole process flush denormal numbers to zero.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")

# The REAL in which C calculates, for tensors of each dtype.
REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double, torch.bfloat16: ctypes.c_float}

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # from glibc's malloc.h

logger = logging.getLogger("alexnet_lit")


def keep_memory() -> None:
    """Make glibc keep freed memory in this process; elsewhere do nothing.

    By default the system clears and takes back the pages of each large tensor: a tenth of a training step on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)  # never


@functools.cache
def bf16_units() -> str:
    """This CPU's units for bfloat16: "AMX" (matrices), "AVX512-BF16" (vectors), or "" where torch emulates it.

    Emulated, it takes 10 to 20 times as long as float32.
    """
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""


def autocasts_to_amx(x: Tensor) -> bool:
    """Whether layers of `x` are computed in bfloat16 by AMX, under autocast and not for a compiler or exporter."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return autocast and x.device.type == "cpu" and not is_traced() and bf16_units() == "AMX"


def is_traced() -> bool:
    """Whether a compiler or an exporter runs this: they fuse and differentiate plain operations themselves."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call] # torch leaves it untyped
        return True
    return torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0


def library(source: Path, dtype: torch.dtype) -> ctypes.CDLL | None:
    """Compile and load a C file for tensors of `dtype`, one of REALS; None where that fails.

    REAL is defined as the C type to calculate in, and BF16 if tensors are bfloat16, which C has no portable name for.
    """
    compiler = os.environ.get("CC", "cc").split()
    real = REALS[dtype].__name__.removeprefix("c_")
    try:
        with tempfile.TemporaryDirectory(prefix="alexnet_lit_") as folder:
            target = Path(folder) / f"{source.stem}_{real}.so"
            numbers = [f"-DREAL={real}", *(["-DBF16"] if dtype == torch.bfloat16 else [])]
            command = [*compiler, *_FLAGS, *numbers, str(source), "-o", str(target), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=60)
            return ctypes.CDLL(str(target))  # stays mapped when the file is gone
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("%s: %s", " ".join(compiler), getattr(error, "stderr", None) or error)
        return None


def c_arguments(*values: Tensor | int) -> list[Any]:
    """Arguments of a C function: of tensors pointers to their data, whole numbers as size_t."""
    return [ctypes.c_void_p(it.data_ptr()) if isinstance(it, Tensor) else ctypes.c_size_t(it) for it in values]
