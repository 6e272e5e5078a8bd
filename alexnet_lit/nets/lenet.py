"""LeNet-5, the traditional CNN that AlexNet is compared with."""

from functools import partial
from typing import Literal

from pydantic import ConfigDict, validate_call

from alexnet_lit.nets.activation import Activation
from alexnet_lit.nets.design import Classes, Compile, Conv, ConvNet, Count, Design, NotNegative, Positive, Probability
from alexnet_lit.nets.lrn import LocalResponseNorm

DESIGN = Design(
    (
        Conv(6, 5, padding=2, normalised=True, pooled=True),
        Conv(16, 5, normalised=True, pooled=True),
    ),
    pooling="average",
    hidden=(120, 84),
)


class LeNet(ConvNet):
    """Two convolutions of 5x5, average pooling, three linear layers: 61,706 parameters for one channel and 28 px.

    As the course builds it, after LeCun et al. 1998: plain average pooling and a linear output layer stand for the
    trained subsampling and the radial basis functions of the original. Images of any size from 12 px; the first linear
    layer follows it.

    AlexNet's ideas are switches here too: local response normalisation (lrn, lrn_*) after both convolutions'
    activations, 3x3 pooling windows two apart (overlapping_pool), dropout after the hidden linear layers' activations.
    init: the three of 2012 are missing, as they are defined layer by layer for five convolutions and three linear
    layers.

    Shape: images (B, in_channels, image_size, image_size) -> logits (B, num_classes).
    Raises: ValueError if image_size is too small for a feature to be left after the last pooling.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
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
        init: Literal["xavier", "kaiming"],
        compile: Compile,
    ) -> None:
        norm = partial(LocalResponseNorm, lrn_size, lrn_alpha, lrn_beta, lrn_k, lrn_reduction) if lrn else None
        super().__init__(
            DESIGN,
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
