"""How a batch of small uint8 images becomes what the net sees: normalised and resized, on the device that trains."""

import ctypes
import functools
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.kernels.native import c_arguments, is_traced, library

Mean = Annotated[float, Field(allow_inf_nan=False)]
Std = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def resize_matrix(source: int, enlarged: int) -> Tensor:
    """Bilinear interpolation along an axis as a matrix (enlarged, source): `rows @ image @ columns.T` is the resize."""
    return F.interpolate(torch.eye(source)[None], size=enlarged, mode="linear", align_corners=False)[0].T.contiguous()


class Preprocess(nn.Module):
    """Normalises and resizes whole batches, several times as fast as image by image.

    A pixel value v in 0..255 becomes (v / 255 - mean) / std, by one mean and std or by those of its channel. An image
    is resized to `enlarged` px, of which a window of `image_size` px is kept: the middle one, as in torchvision's
    Resize and CenterCrop, unless `corners` says otherwise. The result has the dtype and device of the buffers.
    """

    matrix: Tensor
    mean: float | Tensor  # a number for all channels, or (C,)
    std: float | Tensor

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        source_size: Annotated[int, Field(ge=1)],
        image_size: Annotated[int, Field(ge=1)],
        enlarged: Annotated[int, Field(ge=1)],
        mean: Mean | list[Mean],
        std: Std | list[Std],
    ) -> None:
        super().__init__()
        assert enlarged >= image_size
        self.source_size, self.image_size, self.enlarged = source_size, image_size, enlarged
        for name, values in (("mean", mean), ("std", std)):
            if isinstance(values, list):
                self.register_buffer(name, torch.tensor(values), persistent=False)
            else:
                setattr(self, name, values)
        self.register_buffer("matrix", resize_matrix(source_size, enlarged), persistent=False)
        self._axes: dict[Any, tuple[Tensor, Tensor, Tensor]] = {}  # made once

    def forward(
        self, images: Tensor, *, corners: Tensor | None = None, color: Tensor | None = None, whole: bool = False
    ) -> Tensor:
        """Normalise and resize: uint8 (B, H, W) or (B, C, H, W) -> (B, C, image_size, image_size).

        corners: int64 (B, 2), top and left px of the window of each resized image, black where it lies outside; without
        them the middle, or with `whole` all of it: (B, C, enlarged, enlarged). color: (B, C), added to the values 0..1.
        """
        if images.ndim == 3:
            images = images.unsqueeze(1)  # (B, H, W) -> (B, 1, H, W)
        ones = self.matrix.new_ones(images.shape[:2])  # (B, C)
        scale, shift = ones / (255 * self.std), ones * -self.mean / self.std
        if color is not None:
            shift += color.to(shift.dtype) / self.std
        size = self.enlarged if whole else self.image_size
        if corners is None:
            first = 1 + round((self.enlarged - size) / 2)
            down = across = torch.arange(first, first + size, device=images.device)[None]  # (1, S)
        else:
            shown = torch.arange(1, 1 + size, device=images.device)
            down, across = (corners.T[..., None] + shown).clamp_(0, self.enlarged + 1)  # (B, S) each
        (height, *vertical), (width, *horizontal) = (self._axis(side) for side in images.shape[-2:])
        if has_kernel(images, ones.dtype):
            taps = [*(_pick(each, down) for each in vertical), *(_pick(each, across) for each in horizontal)]
            return _resize_by_kernel(images, scale, shift, *taps)
        # Normalised while they are small, with the black row and column of `_axis`.
        values = F.pad(images, (0, 1, 0, 1)) * scale[..., None, None] + shift[..., None, None]
        # A product an image, so that its result does not depend on the others: (B, C * (H + 1), W + 1) @ (W + 1, S).
        x = values.flatten(1, 2) @ _pick(width, across).mT
        return _pick(height, down)[:, None] @ x.view(*values.shape[:-1], size)  # (S, H + 1) @ (H + 1, S)

    def _axis(self, source: int) -> tuple[Tensor, Tensor, Tensor]:
        """Resize matrix of one axis, with a black px before the first and after the last: (1 + enlarged + 1,
        source + 1), whose rows sum to 1 and whose last column is black; of each row the two columns that may differ
        from 0, int32, and their values: (1 + enlarged + 1, 2) each.
        """
        key = (source, self.matrix.dtype, self.matrix.device)
        if key not in self._axes:
            matrix = self.matrix
            if source != self.source_size:
                matrix = resize_matrix(source, self.enlarged).to(matrix, non_blocking=True)
            matrix = F.pad(matrix, (0, 1, 1, 1))
            matrix[:: self.enlarged + 1, -1].fill_(1)  # the first and the last row are black
            weights, places = matrix.topk(2)
            self._axes[key] = matrix, places.int(), weights
        return self._axes[key]


def _pick(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table (N, K): index (...) -> (..., K). Twice as fast as `table[index]`."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])


def has_kernel(images: Tensor, dtype: torch.dtype) -> bool:
    """Whether pixels.c, compiled where a C compiler with OpenMP is at hand, takes `images` to numbers of `dtype`."""
    plain = images.device.type == "cpu" and images.dtype == torch.uint8 and not is_traced()
    return plain and dtype in (torch.float32, torch.float64) and images.numel() > 0 and _kernel(dtype) is not None


@functools.cache
def _kernel(dtype: torch.dtype) -> ctypes.CDLL | None:
    return library(Path(__file__).with_name("pixels.c"), dtype)


def _resize_by_kernel(images: Tensor, scale: Tensor, shift: Tensor, *taps: Tensor) -> Tensor:
    """Interpolate between values `v * scale + shift` of images: uint8 (B, C, H, W) -> (B, C, S, S).

    scale, shift: (B, C), in the dtype of the result. taps: the two source px that each px of the window is made of, and
    their weights, of rows, then of columns: (1 or B, S, 2) each.
    """
    batch, channels, height, width = images.shape
    windows, size, _ = taps[0].shape
    out = scale.new_empty(batch, channels, size, size)
    threads = torch.get_num_threads()
    scratch = scale.new_empty(threads * ((height + 1) * size + width + 1))
    inputs = [tensor.contiguous() for tensor in (images, scale, shift, *taps)]
    planes = batch * channels
    given = c_arguments(inputs[0], out, *inputs[1:], scratch, planes, planes // windows, height, width, size)
    kernel = _kernel(scale.dtype)
    assert kernel is not None
    kernel.resize(*given, ctypes.c_int(threads))
    return out
