"""AlexNet as the course builds it, each of the paper's ideas a switch."""

import itertools
from collections import OrderedDict
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.init import Init, initialise
from alexnet_lit.nets.lrn import LocalResponseNorm

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}

# out channels, kernel, stride, padding, normalised (where LRN is on), pooled. The order is the order of the layers.
CONVOLUTIONS = (
    (96, 11, 4, 1, True, True),
    (256, 5, 1, 2, True, True),
    (384, 3, 1, 1, False, False),
    (384, 3, 1, 1, False, False),
    (256, 3, 1, 1, False, True),
)
HIDDEN = 4096


class AlexNet(nn.Module):
    """The course's AlexNet: 46,764,746 parameters for one channel, ten classes and 224 px.

    Departures from Krizhevsky et al. 2012: one tower (no groups), padding 1 in conv1 (54 px after it, not 55), and a
    first linear layer that follows the image size. Everything else is a switch:

    lrn: local response normalisation after the first two activations (section 3.3). lrn_reduction: see
    LocalResponseNorm.
    overlapping_pool: 3x3 windows two apart (section 3.4), else 2x2 windows two apart.
    activation: section 3.1 argues for relu. dropout: probability of each hidden linear unit to be dropped (section
    4.2). A layer that is switched off is absent, not idle. compile: run the forward pass through torch.compile.

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
        activation: Literal["relu", "tanh", "sigmoid"],
        lrn: bool,
        lrn_reduction: Literal["mean", "sum"],
        overlapping_pool: bool,
        dropout: Annotated[float, Field(ge=0, le=1)],
        init: Init,
        compile: bool,
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        window = 3 if overlapping_pool else 2
        size = _feature_size(image_size, window)
        if size < 1:
            smallest = next(s for s in itertools.count(image_size) if _feature_size(s, window) > 0)
            raise ValueError(f"image_size={image_size} leaves nothing after the last pooling: use {smallest} or more")

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for n, (out, kernel, stride, padding, normalised, pooled) in enumerate(CONVOLUTIONS, start=1):
            layers[f"conv{n}"] = nn.Conv2d(channels, out, kernel, stride, padding)
            activate = (f"{activation}{n}", _activation(act))
            pool = [(f"pool{n}", nn.MaxPool2d(window, stride=2))] if pooled else []
            if lrn and normalised:
                norm = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction=lrn_reduction)
                layers.update([activate, (f"lrn{n}", norm), *pool])
            else:
                # Activations rise monotonically, so the maximum may be taken first: the same values and gradients as
                # activation, then pooling, with a quarter of the elements to activate.
                layers.update([*pool, activate])
            channels = out
        self.features = nn.Sequential(layers)

        head: OrderedDict[str, nn.Module] = OrderedDict()
        units = channels * size * size
        for n in (6, 7):
            head[f"linear{n}"] = nn.Linear(units, HIDDEN)
            head[f"{activation}{n}"] = _activation(act)
            if dropout:
                head[f"dropout{n}"] = nn.Dropout(dropout)
            units = HIDDEN
        head["linear8"] = nn.Linear(units, num_classes)
        self.classifier = nn.Sequential(head)

        initialise(self, init, activation)
        # Convolutions read and write channels last faster than channels first, on CPUs and on tensor cores alike.
        self.to(memory_format=torch.channels_last)
        if compile:
            self.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, num_classes)."""
        x = self.features(images).flatten(1)  # (B, 256, 5, 5) -> (B, 6400) at 224 px
        logits: Tensor = self.classifier(x)
        return logits


def _feature_size(size: int, window: int) -> int:
    """Height and width in pixels after the last pooling of an image of `size` px; below 1 where nothing is left."""
    for _, kernel, stride, padding, _, pooled in CONVOLUTIONS:
        size = (size + 2 * padding - kernel) // stride + 1
        size = (size - window) // 2 + 1 if pooled else size
    return size


def _activation(act: type[nn.Module]) -> nn.Module:
    # A convolution's or linear layer's backward pass does not need its own output, so ReLU may overwrite it.
    return nn.ReLU(inplace=True) if act is nn.ReLU else act()
