"""Local response normalisation (Krizhevsky et al. 2012, section 3.3)."""

import functools
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.kernels import lrn_cpu, lrn_plain
from alexnet_lit.nets.kernels.native import is_traced

Count = Annotated[int, Field(ge=1)]


class LocalResponseNorm(nn.Module):
    """Divide each activation by a power of the squares of its neighbours in the channel dimension.

    b[c] = a[c] / (k + alpha * R(a^2 over the `size` channels around c)) ^ beta, where R is the `reduction`; the paper
    has k=2, size=5, alpha=1e-4, beta=0.75. relu: of the positive part of the input, in the same pass over memory.

    Trap: the paper's printed formula sums the squares (`reduction="sum"`); the code released with it, Caffe and torch
    divide the sum by `size` (`reduction="mean"`). At the same alpha the two differ by that factor.
    The window is torch's: an even `size` reaches one channel further down than up, and channels beyond the ends count
    as zero while the divisor stays `size`.

    Half-precision inputs are squared in float32, as 256 squared is beyond float16.

    Shape: (B, C, H, W) -> (B, C, H, W), in the dtype and memory format of the input.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self, size: Count, alpha: float, beta: float, k: float, reduction: Literal["sum", "mean"], relu: bool = False
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k
        self.reduction, self.relu = reduction, relu

    def forward(self, x: Tensor) -> Tensor:
        """Normalise across channels: (B, C, H, W) -> (B, C, H, W)."""
        alpha = self.alpha / self.size if self.reduction == "mean" else self.alpha
        if is_traced():
            return lrn_plain.forward(x, self.size, alpha, self.beta, self.k, self.relu)
        return Normalise.apply(x, implementation(x), self.size, alpha, self.beta, self.k, self.relu)

    def extra_repr(self) -> str:
        relu = ", relu=True" if self.relu else ""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, reduction={self.reduction}{relu}"


class Normalise(torch.autograd.Function):
    """The layer and its gradient in closed form; `kernel` is a module with `forward` and `backward`.

    b = a s^-beta with s = k + alpha W a^2, where W sums over the window. With g the gradient of b, that of a is
    g s^-beta - 2 alpha beta a W'(g a s^(-beta - 1)), where W' sums over the mirrored window. Only `a` is kept between
    the passes: computing s again is faster than reading it from memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: ModuleType, *settings: float) -> Tensor:
        """Normalise: (B, C, ...) -> the same."""
        ctx.save_for_backward(x)
        ctx.kernel, ctx.settings = kernel, settings
        return kernel.forward(x, *settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `x`; kernel and settings have none."""
        (x,) = ctx.saved_tensors
        kernel = lrn_plain if torch.is_grad_enabled() or is_traced() else ctx.kernel  # to differentiate again
        return kernel.backward(x, gradient, *ctx.settings), None, None, None, None, None, None


def implementation(x: Tensor) -> ModuleType:
    """The fastest kernel for `x` on this machine: lrn_gpu (Triton), lrn_cpu (C) or lrn_plain."""
    compiled = _triton_kernel() if x.device.type == "cuda" else lrn_cpu
    return compiled if compiled is not None and compiled.available(x) else lrn_plain


@functools.cache
def _triton_kernel() -> ModuleType | None:
    return import_module("alexnet_lit.nets.kernels.lrn_gpu") if find_spec("triton") is not None else None
