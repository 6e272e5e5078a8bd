"""The activations that nets are compared by."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "tanh", "sigmoid"]
_LAYERS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def activate(activation: Activation) -> nn.Module:
    """A new layer for the output of a convolution, a linear layer or a pooling."""
    # None of these needs its own output in the backward pass, so ReLU may overwrite it.
    return nn.ReLU(inplace=True) if activation == "relu" else _LAYERS[activation]()
