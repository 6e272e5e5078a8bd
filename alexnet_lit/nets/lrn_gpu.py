"""Local response normalisation on a GPU: one Triton kernel each way, which reads and writes every number once.

Triton comes with torch where there are GPUs that it knows; this file is imported where a tensor lies on one.
"""

import functools
import logging

import torch
import triton
import triton.language as tl
from torch import Tensor

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_BLOCK = 1024  # numbers that one program of the grid computes

logger = logging.getLogger("alexnet_lit")


def available(x: Tensor) -> bool:
    """Whether `forward` and `backward` take `x`."""
    return x.dtype in _DTYPES and x.numel() > 0 and _step(x) > 0 and _works(x.device)


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta: (B, C, ...) -> the same, in the dtype and memory format of `x`."""
    out = torch.empty_like(x)
    _normalise[_grid(x)](x, out, x.numel(), _step(x), x.shape[1], alpha, beta, k, size, relu, _BLOCK)
    return out


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    out = torch.empty_like(x)
    if gradient.stride() != x.stride():  # not in a net whose layers keep the memory format
        gradient = torch.empty_like(x).copy_(gradient)
    _derive[_grid(x)](x, gradient, out, x.numel(), _step(x), x.shape[1], alpha, beta, k, size, relu, _BLOCK)
    return out


def _step(x: Tensor) -> int:
    """How many numbers away the next channel lies; 0 where `x` has gaps."""
    if x.is_contiguous():
        return x[0, 0].numel()
    return 1 if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else 0


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), _BLOCK),)


@functools.cache
def _works(device: torch.device) -> bool:
    """Whether Triton compiles and runs here: it asks for a recent GPU, its driver and a C compiler."""
    x = torch.ones(1, 1, 1, 1, device=device)
    try:
        backward(x, forward(x, 5, 1e-4, 0.75, 2.0, True), 5, 1e-4, 0.75, 2.0, True)
    except Exception as error:  # Triton, the compiler that it calls and the driver have no error class in common
        logger.info("Triton does not run on this GPU, so local response normalisation is slower: %s", error)
        return False
    return True


@triton.jit
def _load(x, at, inside, relu: tl.constexpr):
    """Numbers in float32, or their positive part; not a number stays it."""
    a = tl.load(x + at, inside, 0.0).to(tl.float32)
    return tl.where(a < 0, 0.0, a) if relu else a


@triton.jit
def _scale(x, at, channel, inside, step, channels, alpha, k, size: tl.constexpr, relu: tl.constexpr):
    """The sum k + alpha W a^2 at the offsets `at`, which lie in the channels `channel`."""
    total = tl.zeros(at.shape, tl.float32)
    for n in tl.static_range(size):
        near = channel + n - size // 2
        a = _load(x, at + (n - size // 2) * step, inside & (near >= 0) & (near < channels), relu)
        total += a * a
    return k + alpha * total


@triton.jit
def _normalise(
    x, y, count, step, channels, alpha, beta, k, size: tl.constexpr, relu: tl.constexpr, block: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    channel = at // step % channels
    scale = _scale(x, at, channel, inside, step, channels, alpha, k, size, relu)
    a = _load(x, at, inside, relu)
    tl.store(y + at, (a * tl.exp2(-beta * tl.log2(scale))).to(y.dtype.element_ty), inside)


@triton.jit
def _derive(
    x, gradient, out, count, step, channels, alpha, beta, k, size: tl.constexpr, relu: tl.constexpr, block: tl.constexpr
):
    """Each neighbour's scale is computed again: its squares are in the cache, while a scale kept by the forward pass
    would have to come from memory.
    """
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    channel = at // step % channels
    direct = tl.zeros((block,), tl.float32)
    spread = tl.zeros((block,), tl.float32)
    for n in tl.static_range(size):
        shift = n - (size - 1) // 2  # the mirrored window
        near = channel + shift
        there = inside & (near >= 0) & (near < channels)
        scale = _scale(x, at + shift * step, near, there, step, channels, alpha, k, size, relu)
        a = _load(x, at + shift * step, there, relu)
        part = tl.load(gradient + at + shift * step, there, 0.0).to(tl.float32) * tl.exp2(-beta * tl.log2(scale))
        spread += part * a / scale
        if shift == 0:
            direct = part
    a = _load(x, at, inside, False)
    derived = direct - 2 * alpha * beta * a * spread
    derived = tl.where(a <= 0, 0.0, derived) if relu else derived
    tl.store(out + at, derived.to(out.dtype.element_ty), inside)
