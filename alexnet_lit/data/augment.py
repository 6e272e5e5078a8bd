"""What may happen to a training image before the net sees it. Never to a validation or test image."""

import torch
from pydantic import ConfigDict, validate_call
from torch import Tensor


class Augment:
    """Random changes of a whole batch on the device.

    What happens to an image depends on its draws alone, which are a function of (seed, epoch, image): the same on any
    number of devices, in any batch, and after a resume.

    mirror: turn an image left to right with probability 1/2 (Krizhevsky et al. 2012, section 4.1).
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(self, *, mirror: bool) -> None:
        self.mirror = mirror

    @property
    def draws(self) -> int:
        """Numbers that it takes for each image."""
        return int(self.mirror)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change uint8 images (B, ..., H, W) by draws (B, D) in [0, 1); without draws they stay as they are."""
        if self.mirror and draws.shape[1]:
            turned = (draws[:, 0] < 0.5).reshape(-1, *[1] * (images.ndim - 1))
            images = torch.where(turned, images.flip(-1), images)
        return images
