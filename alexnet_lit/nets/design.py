"""A net as a table: convolutions in a row, then linear layers; and the module that is built from such a design."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from alexnet_lit.nets.activation import Activation, activate
from alexnet_lit.nets.init import Init, initialise
from alexnet_lit.nets.kernels.strided import StridedConv2d

# What the arguments of nets may be.
Count = Annotated[int, Field(ge=1)]
Classes = Annotated[int, Field(ge=2)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

# Whether the forward pass is compiled; a name is a mode of torch.compile, true its default one. On a GPU
# "reduce-overhead" and "max-autotune" record CUDA graphs: logits and gradients then lie in memory that the next forward
# pass writes over, so whatever keeps them longer has to copy them.
Compile = Literal[False, True, "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]

_CAST = (torch.float32, torch.float16, torch.bfloat16)  # what autocast brings to its own dtype

_POOLING: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


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
    """One net. What it does not say, its switches do."""

    convolutions: tuple[Conv, ...]
    pooling: Literal["max", "average"] = "max"
    average: int | None = None  # px that an adaptive pooling brings the last map to; None leaves it as it is
    hidden: tuple[int, ...] = (4096, 4096)  # units of the linear layers before the last
    dropout: Literal["before", "after"] = "after"  # each hidden linear layer and its activation


class ConvNet(nn.Module):
    """The net of a design: `features`, from images to the last map, and `classifier`, from there to logits.

    A layer that is switched off is absent, not idle. norm: makes the layer that follows the activation of each
    convolution that the design calls normalised, and that activation with it for `relu=True`; None for none.

    Shape: images (B, in_channels, image_size, image_size) -> logits (B, num_classes). Images of another size are taken
    if the last map is as large.
    Raises: ValueError if image_size is too small for a feature to be left after the last pooling, and for images of
    another shape or dtype.
    """

    def __init__(
        self,
        design: Design,
        *,
        in_channels: int,
        num_classes: int,
        image_size: int,
        activation: Activation,
        norm: Callable[..., nn.Module] | None,
        overlapping_pool: bool,
        dropout: float,
        init: Init,
        compile: Compile,
    ) -> None:
        super().__init__()
        window = 3 if overlapping_pool else 2
        smallest = next(s for s in itertools.count(1) if _map_size(design, s, window) > 0)
        if image_size < smallest:
            raise ValueError(f"image_size={image_size} leaves nothing after the last pooling: use {smallest} or more")
        size = _map_size(design, image_size, window)
        self.features = _features(design, in_channels, activation, norm, window)
        # For a map of that size the layer would do nothing, and on GPUs its gradient is not repeatable.
        if design.average is not None and design.average != size:
            self.features.add_module("average", nn.AdaptiveAvgPool2d(design.average))
            size = design.average
        units = design.convolutions[-1].channels * size * size
        self._image_shape, self._smallest, self._units = (in_channels, image_size, image_size), smallest, units
        self.classifier = _classifier(design, units, num_classes, activation, dropout)
        initialise(self, init, activation)
        # Convolutions read and write channels last faster than channels first, on CPUs and on tensor cores alike.
        self.to(memory_format=torch.channels_last)
        if compile is not False:
            self.compile(mode=None if compile is True else compile)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, num_classes)."""
        # Sizes are plain numbers, so that none of this is part of a compiled or exported graph.
        if images.ndim != 4 or images.shape[1] != self._image_shape[0] or min(images.shape[2:]) < self._smallest:
            raise self._misfit(images)
        if images.dtype != self._dtype and not (
            images.dtype in _CAST and torch.is_autocast_enabled(images.device.type)
        ):
            raise self._misfit(images)
        x = self.features(images).flatten(1)  # (B, 256, 5, 5) -> (B, 6400) for the course's AlexNet at 224 px
        if x.shape[1] != self._units:
            raise self._misfit(images)
        logits: Tensor = self.classifier(x)
        return logits

    @property
    def _dtype(self) -> torch.dtype:
        weight = self.features[0].weight
        assert isinstance(weight, Tensor)
        return weight.dtype

    def _misfit(self, images: Tensor) -> ValueError:
        shape = f"(B, {', '.join(map(str, self._image_shape))})"
        name, takes = type(self).__name__, f"{self._dtype} images {shape}"
        return ValueError(f"{name} takes {takes}, not {images.dtype} {tuple(images.shape)}")


def _features(
    design: Design, channels: int, activation: Activation, norm: Callable[..., nn.Module] | None, window: int
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for n, conv in enumerate(design.convolutions, start=1):
        kind = StridedConv2d if conv.stride > 1 and conv.groups == 1 else nn.Conv2d
        layers[f"conv{n}"] = kind(channels, conv.channels, conv.kernel, conv.stride, conv.padding, groups=conv.groups)
        activated = {f"{activation}{n}": activate(activation)}
        pooled = {f"pool{n}": _POOLING[design.pooling](window, stride=2)} if conv.pooled else {}
        if norm is not None and conv.normalised and activation == "relu":
            layers |= {f"relu_lrn{n}": norm(relu=True)} | pooled  # one pass over memory for both
        elif norm is not None and conv.normalised:
            layers |= activated | {f"lrn{n}": norm()} | pooled
        elif design.pooling == "max":
            # Activations rise monotonically, so the maximum may be taken first: the same values and gradients as
            # activation, then pooling, with a quarter of the elements to activate.
            layers |= pooled | activated
        else:
            layers |= activated | pooled
        channels = conv.channels
    return nn.Sequential(layers)


def _classifier(design: Design, units: int, num_classes: int, activation: Activation, dropout: float) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    first = len(design.convolutions) + 1
    for n, hidden in enumerate(design.hidden, start=first):
        dropped = {f"dropout{n}": nn.Dropout(dropout)} if dropout else {}
        linear = {f"linear{n}": nn.Linear(units, hidden), f"{activation}{n}": activate(activation)}
        layers |= dropped | linear if design.dropout == "before" else linear | dropped
        units = hidden
    layers[f"linear{first + len(design.hidden)}"] = nn.Linear(units, num_classes)
    return nn.Sequential(layers)


def _map_size(design: Design, size: int, window: int) -> int:
    """Height and width in px after the last pooling for an image of `size` px; below 1 where nothing is left."""
    for conv in design.convolutions:
        size = (size + 2 * conv.padding - conv.kernel) // conv.stride + 1
        size = (size - window) // 2 + 1 if conv.pooled else size
    return size
