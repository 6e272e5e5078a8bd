"""Local response normalisation, the layer that AlexNet is remembered for."""

from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LocalResponseNorm(nn.Module):
    """Divide each activation by a power of the squares of its neighbours in the channel dimension.

    b[c] = a[c] / (k + alpha * R(a^2 over the `size` channels around c)) ^ beta, where R is the `reduction`.

    Trap: the formula printed in the paper sums the squares (`reduction="sum"`); the code that was released with it,
    Caffe and torch divide the sum by `size` (`reduction="mean"`). At the same alpha the two differ by that factor.
    The window is torch's: for an even `size` it reaches one channel further down than up, and channels beyond the
    ends count as zero while the divisor stays `size`.

    Half-precision inputs are squared in float32, as 256 squared is beyond float16; the result has the input's dtype
    and memory format. The gradient is taken in closed form, in less than half the time of torch's layer, and without
    atomic additions.

    Source: Krizhevsky et al. 2012, section 3.3 (k=2, size=5, alpha=1e-4, beta=0.75).

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        size: Annotated[int, Field(ge=1)],
        alpha: float,
        beta: float,
        k: float,
        reduction: Literal["sum", "mean"],
    ) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        """Normalise across channels: (B, C, H, W) -> (B, C, H, W)."""
        alpha = self.alpha / self.size if self.reduction == "mean" else self.alpha
        if torch.compiler.is_compiling():  # a compiler fuses plain operations and derives them itself
            return _power(_scale(x, self.size, alpha, self.k), -self.beta).mul(x).to(x.dtype)
        out: Tensor = _Normalise.apply(x, self.size, alpha, self.beta, self.k)
        return out

    def extra_repr(self) -> str:
        """What `print(net)` shows between the brackets."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, reduction={self.reduction}"


class _Normalise(torch.autograd.Function):
    """b = a s^-beta with s = k + alpha W a^2, where W sums over the window. Hence, with g the gradient of b,
    the gradient of a is  g s^-beta - 2 alpha beta a W'(g a s^(-beta - 1)),  where W' sums over the mirrored window.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        scale = _scale(x, size, alpha, k)
        ctx.save_for_backward(x, scale)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return _power(scale, -beta).mul_(x).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, scale = ctx.saved_tensors
        direct = _power(scale, -ctx.beta).mul_(gradient)  # g s^-beta
        inner = (direct * x).div_(scale)  # g a s^(-beta - 1)
        spread = _window_sum(inner, below=(ctx.size - 1) // 2, above=ctx.size // 2)
        out = direct.addcmul_(spread, x.to(spread.dtype), value=-2 * ctx.alpha * ctx.beta)
        return out.to(x.dtype), None, None, None, None


def _scale(x: Tensor, size: int, alpha: float, k: float) -> Tensor:
    """The sum k + alpha W a^2, in float32 at least: (B, C, H, W)."""
    exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return _window_sum(exact.square(), below=size // 2, above=(size - 1) // 2).mul(alpha).add(k)


def _window_sum(x: Tensor, *, below: int, above: int) -> Tensor:
    """Each channel plus so many below and above it. Shifted additions keep the memory format and copy nothing else."""
    channels = x.shape[1]
    total = x.clone()
    for shift in range(1, min(below, channels - 1) + 1):
        total[:, shift:] += x[:, :-shift]
    for shift in range(1, min(above, channels - 1) + 1):
        total[:, :-shift] += x[:, shift:]
    return total


def _power(scale: Tensor, exponent: float) -> Tensor:
    """Positive numbers to a power; the paper's -0.75 by two square roots, several times faster than `pow`."""
    if exponent == -0.75:
        root = scale.rsqrt()
        return root * root.sqrt()
    return scale.pow(exponent)
