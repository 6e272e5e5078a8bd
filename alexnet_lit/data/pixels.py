"""How a batch of small uint8 images becomes what the net sees: normalised and enlarged, on the device that trains."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

Std = Annotated[float, Field(gt=0)]


def resize_matrix(source: int, target: int) -> Tensor:
    """Bilinear interpolation along one axis as a matrix: (target, source), each row sums to 1.

    It holds what torch's `interpolate(mode="bilinear", align_corners=False)` makes of the unit vectors, so that
    `rows @ image @ columns.T` equals that resize up to rounding.
    """
    return F.interpolate(torch.eye(source)[None], size=target, mode="linear", align_corners=False)[0].T.contiguous()


class Pixels(nn.Module):
    """Normalise and enlarge whole batches by two matrix products, twice as fast as resizing image by image.

    A pixel value v in 0..255 becomes (v / 255 - mean) / std, by one mean and std or by those of its channel. An image
    is enlarged to `enlarged` px, of which a window of `image_size` px is seen: the middle one, as torchvision's Resize
    and CenterCrop have it, unless it is said which. The result has the dtype and device of this module's buffers, so it
    follows the module that holds it.

    Shape: uint8 (B, H, W) or (B, C, H, W) -> float (B, 1 or C, image_size, image_size).
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
        mean: float | list[float],
        std: Std | list[Std],
    ) -> None:
        super().__init__()
        assert enlarged >= image_size
        self.source_size = source_size
        self.image_size = image_size
        self.enlarged = enlarged
        for name, values in (("mean", mean), ("std", std)):
            if isinstance(values, list):
                self.register_buffer(name, torch.tensor(values), persistent=False)
            else:
                setattr(self, name, values)
        self.register_buffer("matrix", resize_matrix(source_size, enlarged), persistent=False)
        self._others: dict[Any, Tensor] = {}  # matrices of other sources, made once

    def forward(
        self,
        images: Tensor,
        *,
        corners: Tensor | None = None,
        color: Tensor | None = None,
        whole: bool = False,
    ) -> Tensor:
        """Normalise and enlarge: uint8 (B, H, W) or (B, C, H, W) -> (B, C, image_size, image_size).

        corners: int64 (B, 2), top and left px of what is seen of each enlarged image, black where it lies outside;
        without them the middle is seen, or with `whole` all of it: (B, C, enlarged, enlarged). color: (B, C), added to
        the values 0..1 of each image.
        """
        if images.ndim == 3:
            images = images.unsqueeze(1)  # (B, H, W) -> (B, 1, H, W)
        rows, columns = (self._matrix(side) for side in images.shape[-2:])
        # One std for all channels is divided by before the products, those of channels between them.
        scale = 255 if isinstance(self.std, Tensor) else 255 * self.std
        shift = rows.new_zeros(1, 1) - self.mean / self.std  # (1, 1 or C)
        if color is not None:
            shift = shift + color.to(rows.dtype) / self.std  # (B, C)
        if corners is None:
            first, size = (0, self.enlarged) if whole else (self._middle, self.image_size)
            rows, columns = (matrix[first : first + size] for matrix in (rows, columns))
            x = self._by_channel((rows / scale) @ images.to(rows.dtype))  # (S, H) @ (B, C, H, W) -> (B, C, S, W)
            if shift.numel() > 1:
                shift = shift[..., None].expand(x.shape[:-1]).reshape(-1, 1)  # (B, C) -> (B*C*S, 1)
            out = torch.addmm(shift, x.flatten(0, -2), columns.T)  # one product: (B*C*S, W) @ (W, S)
            return out.view(*x.shape[:-1], size)
        # A pair of matrices for each image: the rows of the two that its window shows.
        rows, columns = self._seen(rows / scale, corners[:, 0]), self._seen(columns, corners[:, 1])
        channels = images.shape[1]
        x = self._by_channel(rows[:, None] @ images.to(rows.dtype))  # (B, 1, S, H) @ (B, C, H, W) -> (B, C, S, W)
        if shift.numel() > 1:
            shift = shift.expand(x.shape[:2])  # (B, C)
        columns = columns.repeat_interleave(channels, 0) if channels > 1 else columns  # (B*C, S, W)
        out = torch.baddbmm(shift.reshape(-1, 1, 1), x.flatten(0, 1), columns.mT)
        return out.view(*x.shape[:-1], self.image_size)

    @property
    def _middle(self) -> int:
        return round((self.enlarged - self.image_size) / 2)

    def _by_channel(self, x: Tensor) -> Tensor:
        """Divide (B, C, S, W) by the std of each channel, in place, where each has its own."""
        return x.div_(self.std[:, None, None]) if isinstance(self.std, Tensor) else x

    def _seen(self, matrix: Tensor, first: Tensor) -> Tensor:
        """Rows first, first + 1, ... of a resize matrix (target, source) for each image: (B, image_size, source)."""
        target = len(matrix)
        index = first[:, None] + torch.arange(self.image_size, device=matrix.device)  # (B, image_size)
        index = torch.where((index >= 0) & (index < target), index, target)
        return F.pad(matrix, (0, 0, 0, 1))[index]  # behind the last row comes black

    def _matrix(self, source: int) -> Tensor:
        if source == self.source_size:
            return self.matrix
        key = (source, self.matrix.dtype, self.matrix.device)
        if key not in self._others:
            self._others[key] = resize_matrix(source, self.enlarged).to(self.matrix, non_blocking=True)
        return self._others[key]
