"""A strided convolution that matrix units compute on blocks of pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_lit.nets.kernels.native import autocasts_to_amx


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
