"""What torch leaves to do on this machine: compile files in C, keep memory, tell of units for bfloat16."""

import ctypes
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

# The library is made for this machine by each process anew, in a third of a second: one kept on disk would have to be
# known by compiler and processor, and machines that share a disk differ in those.
# Not -ffast-math: linked into a library, it makes the whole process take denormal numbers for zero.
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")

# What a C file takes for its REAL, in which it calculates, where numbers in memory are of that dtype.
REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double, torch.bfloat16: ctypes.c_float}

logger = logging.getLogger("alexnet_lit")


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory() -> None:
    """Let memory that is freed stay with this process, and be handed out again. For glibc; elsewhere nothing changes.

    By default a large tensor is pages of its own, which the system clears as they are first written and takes back when
    the tensor is freed: a tenth of the time of a training step on a CPU, and more of a fast one.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, -1)  # never


def bf16_units() -> str:
    """What this CPU has for bfloat16: "AMX" (matrices), "AVX512-BF16" (vectors), or "" where torch emulates it.

    Emulated, it takes 10 to 20 times as long as float32.
    """
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""


def has_bf16_units() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 several times as fast as in float32, as Intel's AMX does.

    Vector instructions alone do not count: on a Xeon a product takes them 1.7 times as long as float32.
    """
    return bf16_units() == "AMX"


def library(source: Path, dtype: torch.dtype) -> ctypes.CDLL | None:
    """`source` for numbers of `dtype`, one of REALS, or None where it can't be compiled or loaded.

    For bfloat16 BF16 is defined: C has no name for such numbers that all compilers know.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    real = REALS[dtype].__name__.removeprefix("c_")
    try:
        with tempfile.TemporaryDirectory(prefix="alexnet_lit_") as folder:
            target = Path(folder) / f"{source.stem}_{real}.so"
            numbers = [f"-DREAL={real}", *(["-DBF16"] if dtype == torch.bfloat16 else [])]
            command = [*compiler, *_FLAGS, *numbers, str(source), "-o", str(target), "-lm"]
            subprocess.run(command, capture_output=True, check=True, timeout=60)
            return ctypes.CDLL(str(target))  # Python and the system keep it open when the file is gone
    except (OSError, subprocess.SubprocessError) as error:
        logger.debug("%s: %s", " ".join(compiler), getattr(error, "stderr", None) or error)
        return None


def pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    """Where C finds the numbers of each tensor."""
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


def sizes(*numbers: int) -> list[ctypes.c_size_t]:
    """Numbers as C counts."""
    return [ctypes.c_size_t(number) for number in numbers]
