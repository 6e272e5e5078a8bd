"""LeNet-5, the traditional CNN that AlexNet is compared with."""

import itertools
from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.activation import ACTIVATIONS, Activation
from alexnet_lit.nets.init import initialise


class LeNet(nn.Module):
    """Two convolutions of 5x5, average pooling, three linear layers: 61,706 parameters for one channel and 28 px.

    As the course builds it, after LeCun et al. 1998: plain average pooling and a linear output layer stand for the
    trained subsampling and the radial basis functions of the original. Images of any size from 12 px; the first linear
    layer follows it.

    Shape: images (B, in_channels, image_size, image_size) -> logits (B, num_classes).
    Raises: ValueError if image_size is too small for a feature to be left after the last pooling.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        in_channels: Annotated[int, Field(ge=1)],
        num_classes: Annotated[int, Field(ge=2)],
        image_size: Annotated[int, Field(ge=1)],
        activation: Activation,
        init: Literal["xavier", "kaiming"],
        compile: bool,
    ) -> None:
        super().__init__()
        size = _feature_size(image_size)
        if size < 1:
            smallest = next(s for s in itertools.count(image_size) if _feature_size(s) > 0)
            raise ValueError(f"image_size={image_size} leaves nothing after the last pooling: use {smallest} or more")
        act = ACTIVATIONS[activation]
        self.features = nn.Sequential(
            OrderedDict[str, nn.Module](
                [
                    ("conv1", nn.Conv2d(in_channels, 6, kernel_size=5, padding=2)),
                    (f"{activation}1", act()),
                    ("pool1", nn.AvgPool2d(2, stride=2)),
                    ("conv2", nn.Conv2d(6, 16, kernel_size=5)),
                    (f"{activation}2", act()),
                    ("pool2", nn.AvgPool2d(2, stride=2)),
                ]
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict[str, nn.Module](
                [
                    ("linear3", nn.Linear(16 * size * size, 120)),
                    (f"{activation}3", act()),
                    ("linear4", nn.Linear(120, 84)),
                    (f"{activation}4", act()),
                    ("linear5", nn.Linear(84, num_classes)),
                ]
            )
        )
        initialise(self, init, activation)
        if compile:
            self.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, num_classes)."""
        x = self.features(images).flatten(1)  # (B, 16, 5, 5) -> (B, 400) at 28 px
        logits: Tensor = self.classifier(x)
        return logits


def _feature_size(image_size: int) -> int:
    """Height and width in pixels after the last pooling; below 1 where nothing is left."""
    return (image_size // 2 - 4) // 2
