"""A linear layer whose weight gradients AMX writes in float32."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from alexnet_lit.nets.kernels.native import autocasts_to_amx

_FEW = 32  # rows, up to which a product in float32 takes no longer than writing its result does

_products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined] # torch leaves it untyped


class Linear(nn.Linear):
    """nn.Linear; in bfloat16 autocast with AMX, weights get gradients that were never rounded to bfloat16.

    Autocast writes a gradient in bfloat16 and copies it: 250 MB of memory traffic a step for AlexNet's first linear
    layer, of which this spares half.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map features: (B, in_features) -> (B, out_features)."""
        if x.ndim != 2 or not (torch.is_grad_enabled() and self.weight.requires_grad and autocasts_to_amx(x)):
            return super().forward(x)
        return _AmxLinear.apply(x, self.weight, self.bias)


class _AmxLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, half = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, half)
        return F.linear(x, half, bias.bfloat16())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, half = ctx.saved_tensors
        precision = _products.fp32_precision
        with torch.autocast("cpu", enabled=False):
            of_x = gradient @ half
            try:
                _products.fp32_precision = "ieee" if len(x) <= _FEW else "bf16"  # of what is multiplied, not of sums
                of_weight = gradient.float().mT @ x.float()
            finally:
                _products.fp32_precision = precision
        return of_x, of_weight, gradient.sum(0, dtype=torch.float32)
