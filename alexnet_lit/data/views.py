"""What `test` sees of an image: the image, or several views of it whose probabilities are averaged."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

Averaging = Literal["none", "mirror", "ten_crop"]


class TestTimeAugmentation:
    """Averages a net's probabilities over views of each image (test-time augmentation).

    tta: "none" is the image alone, "mirror" the image and its mirror image, "ten_crop" the four corners and the centre
    of the whole image, `enlarged` px large, and their mirror images (Krizhevsky et al. 2012, section 4.1).
    """

    def __init__(self, *, tta: Averaging, image_size: int, enlarged: int) -> None:
        self.tta = tta
        self.image_size = image_size
        self.whole = tta == "ten_crop"  # the images that come in are whole, not their middle alone
        self.size = enlarged if self.whole else image_size  # px of them

    @property
    def count(self) -> int:
        """Views of an image."""
        return {"none": 1, "mirror": 2, "ten_crop": 10}[self.tta]

    def __call__(self, images: Tensor) -> Iterator[Tensor]:
        """The views (B, C, image_size, image_size) of images (B, C, size, size), one after the other."""
        most = self.size - self.image_size
        middle = round(most / 2)
        corners = [(0, 0), (0, most), (most, 0), (most, most), (middle, middle)] if self.whole else [(0, 0)]
        for top, left in corners:
            view = images[..., top : top + self.image_size, left : left + self.image_size]
            yield view
            if self.tta != "none":
                yield view.flip(-1)

    def logits(self, net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """What the net says of images (B, C, size, size): logits (B, classes) whose softmax is the mean over views."""
        if self.tta == "none":
            return net(images)
        logs = torch.stack([net(view).float().log_softmax(1) for view in self(images)])  # (views, B, classes)
        return logs.logsumexp(0) - math.log(len(logs))
