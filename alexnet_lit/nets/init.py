"""All initialisation in one place: what the weights of a net are before the first step."""

from typing import Literal, get_args

from torch import nn

Init = Literal["xavier", "kaiming"]


def initialise(net: nn.Module, init: Init, activation: Literal["relu", "tanh", "sigmoid"]) -> None:
    """Fill the convolution and linear layers of `net` in place, drawing from torch's global generator.

    xavier: Xavier-uniform weights in every layer, torch's own biases: the course's way (d2l, `init_cnn`).
    kaiming: He et al. 2015, normal, fan-in, gain of the activation, zero biases. The last layer is zero: max pooling
    lets activations grow from layer to layer, and a fresh net shall still give every class the same chance, so that
    its loss is ln(classes). The other layers begin to learn from the second step.
    """
    assert init in get_args(Init), init
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        if init == "xavier":
            nn.init.xavier_uniform_(layer.weight)
            continue
        if layer is layers[-1]:
            nn.init.zeros_(layer.weight)
        else:
            gain = nn.init.calculate_gain(activation)
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=gain / fan_in**0.5)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
