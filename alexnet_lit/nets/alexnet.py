"""AlexNet and its family: each member is a row in DESIGNS, each of the paper's ideas a switch.

The paper is Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks".
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.nets.init import Activation, Init, initialise
from alexnet_lit.nets.kernels.layers import Linear, StridedConv2d
from alexnet_lit.nets.lrn import Count, LocalResponseNorm

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Whether torch.compile runs the forward pass, or in which of its modes. Trap: "reduce-overhead" and "max-autotune"
# record CUDA graphs, whose next forward pass overwrites logits and gradients.
Compile = Literal[False, True, "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class Conv(NamedTuple):
    """A convolution: output channels, window, and whether normalisation (where it is on) and pooling follow it."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    normalised: bool = False
    pooled: bool = False


class Design(NamedTuple):
    """A net as a table: convolutions, then linear layers. Everything else about it is a switch."""

    convolutions: tuple[Conv, ...]
    pooling: Literal["max", "average"] = "max"
    average: int | None = None  # px to which adaptive pooling brings the last map; None: as it comes
    hidden: tuple[int, ...] = (4096, 4096)  # units of the linear layers before the last
    dropout: Literal["before", "after"] = "after"  # each hidden linear layer and its activation


DESIGNS = {
    # Dive into Deep Learning: one tower. Maps at 224 px: 54 -> 26 -> 12 -> 5.
    "course": Design(
        (
            Conv(96, 11, stride=4, padding=1, normalised=True, pooled=True),
            Conv(256, 5, padding=2, normalised=True, pooled=True),
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1),
            Conv(256, 3, padding=1, pooled=True),
        )
    ),
    # The paper's figure 2: two towers, here two groups, that meet in conv3 and in the linear layers. Maps at 224 px:
    # 55 -> 27 -> 13 -> 6. Trap: 55 px take padding 2, which the paper does not mention.
    "paper": Design(
        (
            Conv(96, 11, stride=4, padding=2, normalised=True, pooled=True),
            Conv(256, 5, padding=2, groups=2, normalised=True, pooled=True),
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1, groups=2),
            Conv(256, 3, padding=1, groups=2, pooled=True),
        )
    ),
    # The net on one GPU that section 3.2 compares with: half the kernels, except in the last convolution.
    "half": Design(
        (
            Conv(48, 11, stride=4, padding=2, normalised=True, pooled=True),
            Conv(128, 5, padding=2, normalised=True, pooled=True),
            Conv(192, 3, padding=1),
            Conv(192, 3, padding=1),
            Conv(256, 3, padding=1, pooled=True),
        )
    ),
    # Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as torchvision builds it.
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


class ConvNet(nn.Module):
    """The net of a `design`: `features` maps images to the last feature map, `classifier` maps that to logits.

    activation: section 3.1 argues for relu. lrn: local response normalisation after the first two activations (section
    3.3); lrn_*: see LocalResponseNorm. overlapping_pool: 3x3 windows two apart (section 3.4), else 2x2. dropout:
    probability of dropping a hidden linear unit (section 4.2). A layer that is switched off is absent.

    Shape: images (B, in_channels, image_size, image_size) -> logits (B, num_classes).
    Raises: ValueError if nothing of an image is left after the last pooling, and for images of another shape.
    """

    design: Design

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        in_channels: Count,
        num_classes: Annotated[int, Field(ge=2)],
        image_size: Count,
        activation: Activation,
        lrn: bool,
        lrn_size: Count,
        lrn_alpha: NotNegative,
        lrn_beta: NotNegative,
        lrn_k: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        lrn_reduction: Literal["mean", "sum"],
        overlapping_pool: bool,
        dropout: Annotated[float, Field(ge=0, le=1)],
        init: Init,
        compile: Compile,
    ) -> None:
        super().__init__()
        design, window = self.design, 3 if overlapping_pool else 2
        smallest = next(s for s in itertools.count(1) if _map_size(design, s, window) > 0)
        if image_size < smallest:
            raise ValueError(f"image_size={image_size} leaves nothing after the last pooling: use {smallest} or more")
        norm = partial(LocalResponseNorm, lrn_size, lrn_alpha, lrn_beta, lrn_k, lrn_reduction) if lrn else None
        self.features = _features(design, in_channels, activation, norm, window)
        size = _map_size(design, image_size, window)
        # Left out where it would change nothing: on GPUs its gradient is not deterministic.
        if design.average is not None and design.average != size:
            self.features.add_module("average", nn.AdaptiveAvgPool2d(design.average))
            size = design.average
        units = design.convolutions[-1].channels * size * size
        self._image_shape, self._smallest, self._units = (in_channels, image_size, image_size), smallest, units
        self.classifier = _classifier(design, units, num_classes, activation, dropout)
        initialise(self, init, activation)
        # Convolutions are faster in channels last, on CPUs and on tensor cores.
        self.to(memory_format=torch.channels_last)
        if compile is not False:
            self.compile(mode=None if compile is True else compile)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, num_classes)."""
        # Comparing plain numbers adds nothing to a compiled or exported graph.
        if images.ndim != 4 or images.shape[1] != self._image_shape[0] or min(images.shape[2:]) < self._smallest:
            raise self._misfit(images)
        x = self.features(images).flatten(1)  # (B, 256, 5, 5) -> (B, 6400) for the course's AlexNet at 224 px
        if x.shape[1] != self._units:
            raise self._misfit(images)
        return self.classifier(x)

    def _misfit(self, images: Tensor) -> ValueError:
        takes = f"(B, {', '.join(map(str, self._image_shape))})"
        return ValueError(f"{type(self).__name__} takes images {takes}, not {tuple(images.shape)}")


class AlexNet(ConvNet):
    """A member of the AlexNet family, by its design: "course", "paper" (2012), "half" of that, or "owt" (2014).

    Parameters at 224 px: course 46,764,746 (1 channel, 10 classes); paper, in two groups, 60,965,224 and owt 61,100,840
    (3 channels, 1000 classes). Departure from the paper: the first linear layer follows the image size.

    weights: pretrained weights, "imagenet" for the design owt or a file, see `load_weights`. switches: see ConvNet.
    Raises: ValueError, as ConvNet does, and if weights can't be read or don't fit.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self, *, design: Literal["course", "paper", "half", "owt"], weights: str | None, **switches: Any
    ) -> None:
        if weights == "imagenet" and design != "owt":
            raise ValueError(f"weights={weights}: there are none for design={design}: use model=alexnet_owt")
        self.design = DESIGNS[design]
        super().__init__(**switches)
        if weights is not None:
            from alexnet_lit.nets.weights import load_weights

            load_weights(self, weights)


def _features(
    design: Design, channels: int, activation: Activation, norm: Callable[..., nn.Module] | None, window: int
) -> nn.Sequential:
    """Convolution, activation, normalisation, pooling, and so on: images (B, C, S, S) -> the last map (B, C', s, s)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    pooling = nn.MaxPool2d if design.pooling == "max" else nn.AvgPool2d
    for n, conv in enumerate(design.convolutions, start=1):
        kind = StridedConv2d if conv.stride > 1 and conv.groups == 1 else nn.Conv2d
        layers[f"conv{n}"] = kind(channels, conv.channels, conv.kernel, conv.stride, conv.padding, groups=conv.groups)
        activated = {f"{activation}{n}": _activation(activation)}
        pooled = {f"pool{n}": pooling(window, stride=2)} if conv.pooled else {}
        if norm is not None and conv.normalised and activation == "relu":
            layers |= {f"relu_lrn{n}": norm(relu=True)} | pooled  # one pass over memory for both
        elif norm is not None and conv.normalised:
            layers |= activated | {f"lrn{n}": norm()} | pooled
        elif design.pooling == "max":
            # Activations are monotonic, so the maximum may come first: the same values and gradients, and a quarter of
            # the elements to activate.
            layers |= pooled | activated
        else:
            layers |= activated | pooled
        channels = conv.channels
    return nn.Sequential(layers)


def _classifier(design: Design, units: int, num_classes: int, activation: Activation, dropout: float) -> nn.Sequential:
    """Hidden linear layers with dropout, then the last one: (B, units) -> (B, num_classes)."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    first = len(design.convolutions) + 1
    for n, hidden in enumerate(design.hidden, start=first):
        dropped = {f"dropout{n}": nn.Dropout(dropout)} if dropout else {}
        linear = {f"linear{n}": Linear(units, hidden), f"{activation}{n}": _activation(activation)}
        layers |= dropped | linear if design.dropout == "before" else linear | dropped
        units = hidden
    layers[f"linear{first + len(design.hidden)}"] = Linear(units, num_classes)
    return nn.Sequential(layers)


def _activation(name: Activation) -> nn.Module:
    # No layer before it needs its own output in the backward pass, so ReLU may overwrite it.
    return nn.ReLU(inplace=True) if name == "relu" else nn.Tanh() if name == "tanh" else nn.Sigmoid()


def _map_size(design: Design, size: int, window: int) -> int:
    """Height and width in px after the last pooling for an image of `size` px; below 1 where nothing is left."""
    for conv in design.convolutions:
        size = (size + 2 * conv.padding - conv.kernel) // conv.stride + 1
        size = (size - window) // 2 + 1 if conv.pooled else size
    return size
