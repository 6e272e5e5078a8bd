"""Local response normalisation in torch's operations: for any device and dtype, and for compilers to fuse."""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(x: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """Return b = a (k + alpha W a^2)^-beta, in float32 at least: (B, C, ...) -> the same, in the dtype of `x`."""
    exact = _exact(x, relu)
    return (exact * _power(_scale(exact, size, alpha, k), -beta)).to(x.dtype)


def backward(x: Tensor, gradient: Tensor, size: int, alpha: float, beta: float, k: float, relu: bool) -> Tensor:
    """The gradient of `x` from that of `forward`'s output: (B, C, ...) -> the same."""
    exact = _exact(x, relu)
    scale = _scale(exact, size, alpha, k)
    direct = _power(scale, -beta) * gradient  # g s^-beta
    inner = (direct * exact).div_(scale)  # g a s^(-beta - 1)
    spread = _window_sum(inner, below=(size - 1) // 2, above=size // 2)
    out = direct.addcmul(spread, exact, value=-2 * alpha * beta).to(x.dtype)
    return out.masked_fill(x <= 0, 0) if relu else out


def _exact(x: Tensor, relu: bool) -> Tensor:
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x.relu() if relu else x


def _scale(x: Tensor, size: int, alpha: float, k: float) -> Tensor:
    """The sum k + alpha W a^2."""
    return _window_sum(x.square(), below=size // 2, above=(size - 1) // 2) * alpha + k


def _window_sum(x: Tensor, *, below: int, above: int) -> Tensor:
    """Each channel plus that many below and above it; channels beyond the ends are zero."""
    channels = x.shape[1]
    padded = F.pad(x, [0, 0] * (x.ndim - 2) + [below, above])
    total = padded.narrow(1, 0, channels).clone()
    for n in range(1, below + above + 1):
        total += padded.narrow(1, n, channels)
    return total


def _power(scale: Tensor, exponent: float) -> Tensor:
    """Raise to a power; the paper's -0.75 by two square roots, several times faster than `pow`."""
    if exponent == -0.75:
        root = scale.rsqrt()
        return root * root.sqrt()
    return scale.pow(exponent)
