"""The AlexNet family: what its members differ in is the table of designs; each of the paper's ideas is a switch."""

from functools import partial
from typing import Literal

from pydantic import ConfigDict, validate_call

from alexnet_lit.nets.activation import Activation
from alexnet_lit.nets.design import Classes, Compile, Conv, ConvNet, Count, Design, NotNegative, Positive, Probability
from alexnet_lit.nets.init import Init
from alexnet_lit.nets.lrn import LocalResponseNorm
from alexnet_lit.nets.weights import load_weights

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
    # The net on one device that section 3.5 compares the two towers with: half as many kernels, but in the last
    # convolution, so that the parameters are about as many.
    "half": Design(
        (
            Conv(48, 11, stride=4, padding=2, normalised=True, pooled=True),
            Conv(128, 5, padding=2, normalised=True, pooled=True),
            Conv(192, 3, padding=1),
            Conv(192, 3, padding=1),
            Conv(256, 3, padding=1, pooled=True),
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


class AlexNet(ConvNet):
    """A member of the AlexNet family, by its design: "course", "paper" (2012), "half" of that or "owt" (2014).

    Parameters, ungrouped unless said: course 46,764,746 (1 channel, 10 classes, 224 px); paper, in two groups,
    60,965,224 and owt 61,100,840 (3 channels, 1000 classes, 224 px). Departure from Krizhevsky et al. 2012 in all of
    them: the first linear layer follows the image size.

    lrn: local response normalisation after the first two activations (section 3.3). lrn_*: see LocalResponseNorm.
    overlapping_pool: 3x3 windows two apart (section 3.4), else 2x2 windows two apart.
    activation: section 3.1 argues for relu. dropout: probability of each hidden linear unit to be dropped (section
    4.2). A layer that is switched off is absent, not idle. init: see `initialise`. weights: trained ones in place of
    the drawn ones, for the design owt: "imagenet" or a file, see `load_weights`. compile: run the forward pass through
    torch.compile, see `Compile`.

    Shape: images (B, in_channels, image_size, image_size) -> logits (B, num_classes).
    Raises: ValueError if image_size is too small for a feature to be left after the last pooling, or weights can't be
    had or don't fit.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        design: Literal["course", "paper", "half", "owt"],
        in_channels: Count,
        num_classes: Classes,
        image_size: Count,
        activation: Activation,
        lrn: bool,
        lrn_size: Count,
        lrn_alpha: NotNegative,
        lrn_beta: NotNegative,
        lrn_k: Positive,
        lrn_reduction: Literal["mean", "sum"],
        overlapping_pool: bool,
        dropout: Probability,
        init: Init,
        weights: str | None,
        compile: Compile,
    ) -> None:
        if weights is not None and design != "owt":
            raise ValueError(f"weights={weights}: there are none for design={design}: use model=alexnet_owt")
        norm = partial(LocalResponseNorm, lrn_size, lrn_alpha, lrn_beta, lrn_k, lrn_reduction) if lrn else None
        super().__init__(
            DESIGNS[design],
            in_channels=in_channels,
            num_classes=num_classes,
            image_size=image_size,
            activation=activation,
            norm=norm,
            overlapping_pool=overlapping_pool,
            dropout=dropout,
            init=init,
            compile=compile,
        )
        if weights is not None:
            load_weights(self, weights)
