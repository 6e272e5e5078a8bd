"""How a batch of small uint8 images becomes what the net sees: normalised and enlarged, on the device that trains."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn


def resize_matrix(source: int, target: int) -> Tensor:
    """Bilinear interpolation along one axis as a matrix: (target, source), each row sums to 1.

    It holds what torch's `interpolate(mode="bilinear", align_corners=False)` makes of the unit vectors, so that
    `rows @ image @ columns.T` equals that resize up to rounding.
    """
    return F.interpolate(torch.eye(source)[None], size=target, mode="linear", align_corners=False)[0].T.contiguous()


class Pixels(nn.Module):
    """Normalise and enlarge whole batches by two matrix products, twice as fast as resizing image by image.

    A pixel value v in 0..255 becomes (v / 255 - mean) / std. The result has the dtype and device of this module's
    buffer, so it follows the module that holds it.

    Shape: uint8 (B, H, W) or (B, C, H, W) -> float (B, 1 or C, image_size, image_size).
    """

    matrix: Tensor

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        source_size: Annotated[int, Field(ge=1)],
        image_size: Annotated[int, Field(ge=1)],
        mean: float,
        std: Annotated[float, Field(gt=0)],
    ) -> None:
        super().__init__()
        self.source_size = source_size
        self.image_size = image_size
        self.mean = mean
        self.std = std
        self.register_buffer("matrix", resize_matrix(source_size, image_size), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and enlarge: uint8 (B, H, W) or (B, C, H, W) -> (B, C, image_size, image_size)."""
        if images.ndim == 3:
            images = images.unsqueeze(1)  # (B, H, W) -> (B, 1, H, W)
        rows, columns = (self._matrix(size) for size in images.shape[-2:])
        x = (rows / (255 * self.std)) @ images.to(rows.dtype)  # (S, H) @ (B, C, H, W) -> (B, C, S, W)
        shift = x.new_full((1, 1), -self.mean / self.std)
        out = torch.addmm(shift, x.flatten(0, -2), columns.T)  # one product for the whole batch: (B*C*S, W) @ (W, S)
        return out.view(*x.shape[:-1], self.image_size)

    def _matrix(self, size: int) -> Tensor:
        if size == self.source_size:
            return self.matrix
        return resize_matrix(size, self.image_size).to(self.matrix)
