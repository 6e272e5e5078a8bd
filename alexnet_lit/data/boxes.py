"""Random rectangles in a batch of images, one for each, from draws in [0, 1)."""

import torch
from torch import Tensor


def whole(chance: Tensor, most: Tensor | int) -> Tensor:
    """Whole numbers 0..most, each as likely as the others, from chances in [0, 1): (B,) int64."""
    return (chance * (most + 1)).floor().clamp(max=most).long()


def inside(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Which pixels are in the rectangle of each image: (B, size, size). A pair is the first px and the one behind."""
    px = torch.arange(size, device=rows[0].device)
    down, across = ((px >= first[:, None]) & (px < end[:, None]) for first, end in (rows, columns))  # (B, size)
    return down[:, :, None] & across[:, None]
