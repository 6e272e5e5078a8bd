"""The AlexNet family: what its members differ in is the table of designs; each of the paper's ideas is a switch."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.activation import ACTIVATIONS, Activation
from alexnet_lit.nets.init import Init, initialise
from alexnet_lit.nets.lrn import LocalResponseNorm


class Conv(NamedTuple):
    """One convolution: what comes out, its window, and whether normalisation (if it is on) and pooling follow."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    normalised: bool = False
    pooled: bool = False


class Design(NamedTuple):
    """One member of the family. `average`: pixels left by an average pooling before the linear layers, None without."""

    convolutions: tuple[Conv, ...]
    hidden: int = 4096
    average: int | None = None
    dropout: Literal["before", "after"] = "after"  # each hidden linear layer and its activation


DESIGNS = {
    # Dive into Deep Learning: one tower, padding 1 in conv1, so 54 px after it.
    "course": Design(
        (
            Conv(96, 11, stride=4, padding=1, normalised=True, pooled=True),
            Conv(256, 5, padding=2, normalised=True, pooled=True),
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1),
            Conv(256, 3, padding=1, pooled=True),
        )
    ),
    # Krizhevsky et al. 2012: two towers that meet in conv3, on one device two groups; 224 px need padding 2 for 55.
    "paper": Design(
        (
            Conv(96, 11, stride=4, padding=2, normalised=True, pooled=True),
            Conv(256, 5, padding=2, groups=2, normalised=True, pooled=True),
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1, groups=2),
            Conv(256, 3, padding=1, groups=2, pooled=True),
        )
    ),
    # Krizhevsky 2014, "One weird trick", as torchvision builds it.
    "owt": Design(
        (
            Conv(64, 11, stride=4, padding=2, normalised=True, pooled=True),
            Conv(192, 5, padding=2, normalised=True, pooled=True),
            Conv(384, 3, padding=1),
            Conv(256, 3, padding=1),
            Conv(256, 3, padding=1, pooled=True),
        ),
        average=6,
        dropout="before",
    ),
}


class AlexNet(nn.Module):
    """A member of the AlexNet family, by its design: "course", "paper" (2012) or "owt" (2014).

    Parameters, ungrouped unless said: course 46,764,746 (1 channel, 10 classes, 224 px); paper, in two groups,
    60,965,224 and owt 61,100,840 (3 channels, 1000 classes, 224 px). Departure from Krizhevsky et al. 2012 in all of
    them: the first linear layer follows the image size.

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
        design: Literal["course", "paper", "owt"],
        in_channels: Annotated[int, Field(ge=1)],
        num_classes: Annotated[int, Field(ge=2)],
        image_size: Annotated[int, Field(ge=1)],
        activation: Activation,
        lrn: bool,
        lrn_reduction: Literal["mean", "sum"],
        overlapping_pool: bool,
        dropout: Annotated[float, Field(ge=0, le=1)],
        init: Init,
        compile: bool,
    ) -> None:
        super().__init__()
        plan = DESIGNS[design]
        window = 3 if overlapping_pool else 2
        size = _feature_size(plan, image_size, window)
        if size < 1:
            smallest = next(s for s in itertools.count(image_size) if _feature_size(plan, s, window) > 0)
            raise ValueError(f"image_size={image_size} leaves nothing after the last pooling: use {smallest} or more")

        norm = partial(LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=2.0, reduction=lrn_reduction) if lrn else None
        self.features = _features(plan, in_channels, activation, norm, window)
        self.classifier = _classifier(plan, size, num_classes, activation, dropout)
        initialise(self, init, activation)
        # Convolutions read and write channels last faster than channels first, on CPUs and on tensor cores alike.
        self.to(memory_format=torch.channels_last)
        if compile:
            self.compile()

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, num_classes)."""
        x = self.features(images).flatten(1)  # (B, 256, 5, 5) -> (B, 6400) for the course's at 224 px
        logits: Tensor = self.classifier(x)
        return logits


def _features(
    plan: Design, channels: int, activation: Activation, norm: Callable[[], nn.Module] | None, window: int
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for n, conv in enumerate(plan.convolutions, start=1):
        layers[f"conv{n}"] = nn.Conv2d(
            channels, conv.channels, conv.kernel, conv.stride, conv.padding, groups=conv.groups
        )
        activate = (f"{activation}{n}", _activation(activation))
        pool = [(f"pool{n}", nn.MaxPool2d(window, stride=2))] if conv.pooled else []
        if norm is not None and conv.normalised:
            layers.update([activate, (f"lrn{n}", norm()), *pool])
        else:
            # Activations rise monotonically, so the maximum may be taken first: the same values and gradients as
            # activation, then pooling, with a quarter of the elements to activate.
            layers.update([*pool, activate])
        channels = conv.channels
    if plan.average is not None:
        layers["average"] = nn.AdaptiveAvgPool2d(plan.average)
    return nn.Sequential(layers)


def _classifier(plan: Design, size: int, classes: int, activation: Activation, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    first = len(plan.convolutions) + 1
    units = plan.convolutions[-1].channels * size * size
    for n in (first, first + 1):
        drop = [(f"dropout{n}", nn.Dropout(dropout))] if dropout else []
        linear = [(f"linear{n}", nn.Linear(units, plan.hidden)), (f"{activation}{n}", _activation(activation))]
        layers.update([*drop, *linear] if plan.dropout == "before" else [*linear, *drop])
        units = plan.hidden
    layers[f"linear{first + 2}"] = nn.Linear(units, classes)
    return nn.Sequential(layers)


def _feature_size(plan: Design, size: int, window: int) -> int:
    """Height and width in pixels before the linear layers of an image of `size` px; below 1 where nothing is left."""
    for conv in plan.convolutions:
        size = (size + 2 * conv.padding - conv.kernel) // conv.stride + 1
        size = (size - window) // 2 + 1 if conv.pooled else size
    return plan.average if plan.average is not None and size > 0 else size


def _activation(name: Activation) -> nn.Module:
    # A convolution's or linear layer's backward pass does not need its own output, so ReLU may overwrite it.
    return nn.ReLU(inplace=True) if name == "relu" else ACTIVATIONS[name]()
