"""Local response normalisation in Triton: one kernel each way. Imported only for tensors on a GPU.

A lane of the grid computes a run of neighbouring channels of one pixel. Their windows overlap, so it loads the run and
the channels that its windows reach beyond it once, into registers (a tuple, as Triton unrolls its loops).
"""

import functools
import logging
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import constexpr

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LANES = 128  # per program of the grid: one for each thread of Triton's four warps
_RUN = 16  # bytes of neighbouring channels: what a thread loads and stores at once
_NARROW = 2**30  # numbers whose offsets, and those of windows beyond the ends, are int32, which divides fast

logger = logging.getLogger("alexnet_lit")


def available(x: Tensor) -> bool:
    """Whether `forward` and `backward` take `x`."""
    return x.dtype in _DTYPES and x.numel() > 0 and _step(x) > 0 and _works(x.device)


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta: (B, C, ...) -> the same, in the dtype and memory format of `x`."""
    out = torch.empty_like(x)
    _launch(_normalise, x, (x, out), (alpha, k, beta, size, relu))
    return out


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    out = torch.empty_like(x)
    if gradient.stride() != x.stride():  # not in a net whose layers keep the memory format
        gradient = torch.empty_like(x).copy_(gradient)
    _launch(_derive, x, (x, gradient, out), (alpha, k, beta, size, relu))
    return out


def _launch(kernel: Any, x: Tensor, tensors: tuple[Tensor, ...], settings: tuple[float, ...]) -> None:
    step, channels, run = _step(x), x.shape[1], _RUN // x.element_size()
    lanes = x.numel() // channels * triton.cdiv(channels, run)
    width = run if step == 1 and channels % run == 0 else 1  # channels that a load takes
    layout = (run, width, x.numel() > _NARROW, _LANES)
    with torch.cuda.device_of(x):  # Triton launches on the current one
        kernel[(triton.cdiv(lanes, _LANES),)](*tensors, lanes, step, channels, *settings, *layout)


def _step(x: Tensor) -> int:
    """How many numbers away the next channel lies; 0 where `x` has gaps."""
    if x.is_contiguous():
        return x[0, 0].numel()
    return 1 if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else 0


@functools.cache
def _works(device: torch.device) -> bool:
    """Whether Triton compiles and runs here: it needs a recent GPU, its driver and a C compiler."""
    x = torch.ones(1, _RUN, 1, 1, device=device)
    try:
        backward(x, forward(x, 5, 1e-4, 0.75, 2.0, True), 5, 1e-4, 0.75, 2.0, True)
    except Exception as error:  # Triton, the compiler that it calls and the driver have no error class in common
        logger.info("Triton does not run on this GPU, so local response normalisation is slower: %s", error)
        return False
    return True


# A line for each of their parameters would be longer than the kernels: hence `fmt: skip`.
@triton.jit
def _normalise(x, y, lanes, step, channels, alpha, k, beta: constexpr, size: constexpr, relu: constexpr,
    run: constexpr, width: constexpr, wide: constexpr, block: constexpr):  # fmt: skip
    place = _place(lanes, step, channels, run, width, wide, block)
    below: constexpr = size // 2
    a = _load(x, place, step, channels, below, size - 1 - below, relu, run, width)
    squares = [v * v for v in a]
    b = ()
    for n in tl.static_range(run):
        power, _ = _powers(k + alpha * _sum(squares, n, size), beta)
        b += (a[n + below] * power,)
    _store(y, b, place, step, channels, run, width)


@triton.jit
def _derive(x, gradient, out, lanes, step, channels, alpha, k, beta: constexpr, size: constexpr, relu: constexpr,
    run: constexpr, width: constexpr, wide: constexpr, block: constexpr):  # fmt: skip
    """Each neighbour's scale is computed again: its squares are in registers, while a scale kept by the forward pass
    would have to come from memory. A neighbour beyond the ends has no gradient, and so adds nothing.
    """
    place = _place(lanes, step, channels, run, width, wide, block)
    below: constexpr = (size - 1) // 2  # of the mirrored window
    a = _load(x, place, step, channels, size - 1, size - 1, relu, run, width)
    g = _load(gradient, place, step, channels, below, size // 2, False, run, width)
    squares = [v * v for v in a]
    direct, inner, derived = (), (), ()
    for n in tl.static_range(run + size - 1):
        power, inverse = _powers(k + alpha * _sum(squares, n, size), beta)
        direct += (g[n] * power,)
        inner += (direct[n] * a[n + size // 2] * inverse,)
    for n in tl.static_range(run):
        own = a[n + size - 1]
        d = direct[n + below] - 2 * alpha * beta * own * _sum(inner, n, size)
        derived += (tl.where(own <= 0, 0.0, d) if relu else d,)
    _store(out, derived, place, step, channels, run, width)


@triton.jit
def _place(lanes, step, channels, run: constexpr, width: constexpr, wide: constexpr, block: constexpr):
    """The offset of each lane's first number, its channel, and a mask of the lanes that exist."""
    program = tl.program_id(0).to(tl.int64) if wide else tl.program_id(0)
    lane = program * block + tl.arange(0, block)[:, None]
    runs = tl.cdiv(channels, run)
    channel = lane // step % runs * run
    at = (lane // step // runs * channels + channel) * step + lane % step
    at = lane * run if width == run else at  # the same, but Triton sees that it is aligned
    return at, channel, lane < lanes


@triton.jit
def _load(x, place, step, channels, below: constexpr, above: constexpr, relu: constexpr,
    run: constexpr, width: constexpr):  # fmt: skip
    """The run and that many channels below and above it, each (N, 1) in float32; NaN stays NaN under relu."""
    at, channel, inside = place
    values = ()
    for n in tl.static_range(-below // width * width, run + above, width):
        there = inside & (channel + n >= 0) & (channel + n < channels)
        offsets = at + (n + tl.arange(0, width)[None, :]) * step
        a = tl.load(x + offsets, there, 0.0).to(tl.float32)
        values += _split(tl.where(a < 0, 0.0, a) if relu else a)
    return values[-below % width : -below % width + below + run + above]


@triton.jit
def _store(y, values, place, step, channels, run: constexpr, width: constexpr):
    at, channel, inside = place
    for n in tl.static_range(0, run, width):
        there = inside & (channel + n < channels)
        offsets = at + (n + tl.arange(0, width)[None, :]) * step
        tl.store(y + offsets, _join(values[n : n + width]).to(y.dtype.element_ty), there)


@triton.jit
def _sum(values, first: constexpr, size: constexpr):
    total = values[first]
    for n in tl.static_range(first + 1, first + size):
        total += values[n]
    return total


@triton.jit
def _powers(scale, beta: constexpr):
    """The scale to the power of -beta, and of -1; the paper's 0.75 by two square roots, which the hardware has."""
    if beta == 0.75:
        root = tl.rsqrt(scale)
        return root * tl.sqrt(root), root * root
    return tl.exp2(-beta * tl.log2(scale)), 1 / scale


@triton.jit
def _split(block):
    """(N, width) -> width of (N, 1). Halves of halves make a tree, whose leaves come last and in order."""
    tree = (block,)
    for n in tl.static_range(block.shape[1] - 1):
        halves = tl.reshape(tree[n], (block.shape[0], 2, tree[n].shape[1] // 2))
        tree += tl.split(tl.permute(halves, (0, 2, 1)))
    return tree[block.shape[1] - 1 :]


@triton.jit
def _join(tree):
    """The way back: width of (N, 1) -> (N, width)."""
    count: constexpr = len(tree)
    for n in tl.static_range(count - 1):
        halves = tl.permute(tl.join(tree[2 * n], tree[2 * n + 1]), (0, 2, 1))
        tree += (tl.reshape(halves, (halves.shape[0], 2 * halves.shape[2])),)
    return tree[2 * count - 2]
