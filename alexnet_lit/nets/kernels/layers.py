"""nn.Linear and nn.Conv2d in the forms that matrix units compute fastest."""

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_lit.nets.kernels.native import autocasts_to_amx

_FEW = 32  # rows: up to these, a float32 product takes no longer than writing its result

_products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined] # torch leaves it untyped
_lock = threading.Lock()  # for setting its precision, which is global to the process


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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        if torch.is_grad_enabled():
            raise RuntimeError("in bfloat16 autocast with AMX linear layers have no second derivatives: use float32")
        x, half = ctx.saved_tensors
        with _lock, torch.autocast("cpu", enabled=False):  # other threads may compute gradients too
            precision = _products.fp32_precision
            of_x = gradient @ half if ctx.needs_input_grad[0] else None
            try:
                _products.fp32_precision = "ieee" if len(x) <= _FEW else "bf16"  # of the factors; sums are float32
                of_weight = gradient.float().mT @ x.float()
            finally:
                _products.fp32_precision = precision
        return of_x, of_weight, gradient.sum(0, dtype=torch.float32)


class StridedConv2d(nn.Conv2d):
    """nn.Conv2d whose windows are `stride` pixels apart, in one group and without dilation.

    Tensor cores and AMX take channels in multiples of eight or more. So on a GPU, and with AMX in bfloat16 autocast,
    each block of stride x stride pixels becomes the channels of one pixel: AlexNet's 11x11 with stride 4 over 1 channel
    is a 3x3 with stride 1 over 16 channels, with zero weights in the twelfth row and column.
    Weights and their gradients are those of nn.Conv2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (B, C, H, W) -> (B, out_channels, H', W')."""
        return self.by_blocks(x) if x.is_cuda or autocasts_to_amx(x) else super().forward(x)

    def by_blocks(self, x: Tensor) -> Tensor:
        """Convolve by blocks of pixels, on any device: the same sums in another order."""
        sides, paddings = [], []
        axes = zip(x.shape[-2:], self.kernel_size, self.stride, self.padding, strict=True)
        for size, kernel, stride, padding in axes:
            assert isinstance(padding, int)
            window = -(-kernel // stride)  # blocks: 3 for 11 px at stride 4
            windows = (size + 2 * padding - kernel) // stride + 1
            sides.append(window * stride - kernel)
            paddings.append((padding, (windows - 1 + window) * stride - padding - size))  # below 0 cuts off
        (top, bottom), (left, right) = paddings
        images = _blocks(F.pad(x, (left, right, top, bottom)), self.stride)
        return F.conv2d(images, _blocks(_padded(self.weight, *sides), self.stride), self.bias)


def _padded(weight: Tensor, below: int, right: int) -> Tensor:
    """Zeros below and to the right of kernels (out, C, height, width).

    The rows that are padded are those of the memory, channels last. So the gradient has the strides of the weight, in
    the dimension of a single channel too: DistributedDataParallel warns, and copies it, where it has others.
    """
    channels = weight.shape[1]
    rows = F.pad(weight.permute(0, 2, 3, 1).flatten(2), (0, right * channels, 0, below))  # (out, height, width * C)
    return rows.unflatten(2, (-1, channels)).permute(0, 3, 1, 2)


def _blocks(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Blocks of pixels as pixels: (B, C, H, W) -> (B, C * stride * stride, H / stride, W / stride), channels last."""
    high, wide = stride
    x = x.unflatten(3, (-1, wide)).unflatten(2, (-1, high))  # (B, C, H / stride, stride, W / stride, stride)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).permute(0, 3, 1, 2)
