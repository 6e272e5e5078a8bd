"""All initialisation in one place: what the weights of a net are before the first step."""

from typing import Literal

from torch import nn

from alexnet_lit.nets.activation import Activation

Init = Literal["xavier", "kaiming", "paper_2012", "code_2012", "caffe"]

# The three that AlexNet came with: normal weights, by their standard deviation in the convolutions, the hidden and the
# last linear layer; and the bias that conv2, conv4, conv5 and the hidden linear layers begin with, so that their ReLUs
# do. All other biases begin at 0.
ALEXNET = {
    # Krizhevsky et al. 2012, section 5.
    "paper_2012": ((0.01, 0.01, 0.01, 0.01, 0.01), 0.01, 0.01, 1.0),
    # The code that was released with it.
    "code_2012": ((0.01, 0.01, 0.03, 0.03, 0.03), 0.01, 0.01, 1.0),
    # Caffe's bvlc_alexnet: with a bias of 1 its loss stayed flat.
    "caffe": ((0.01, 0.01, 0.01, 0.01, 0.01), 0.005, 0.01, 0.1),
}


def initialise(net: nn.Module, init: Init, activation: Activation) -> None:
    """Fill the convolution and linear layers of `net` in place, drawing from torch's global generator.

    xavier: Xavier-uniform weights in every layer, torch's own biases: the course's way (d2l, `init_cnn`).
    kaiming: He et al. 2015, normal, fan-in, gain of the activation, zero biases. The last layer is zero: max pooling
    lets activations grow from layer to layer, and a fresh net shall still give every class the same chance, so that
    its loss is ln(classes). The other layers begin to learn from the second step.
    paper_2012, code_2012, caffe: see ALEXNET; for nets of five convolutions and three linear layers.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if init == "xavier":
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
    elif init == "kaiming":
        gain = nn.init.calculate_gain(activation)
        for layer in layers[:-1]:
            _normal(layer, std=gain / layer.weight[0].numel() ** 0.5, bias=0.0)
        _normal(layers[-1], std=0.0, bias=0.0)
    else:
        convolutions, hidden, last, bias = ALEXNET[init]
        deviations = (*convolutions, hidden, hidden, last)
        biases = (0.0, bias, 0.0, bias, bias, bias, bias, 0.0)
        for layer, std, value in zip(layers, deviations, biases, strict=True):
            _normal(layer, std=std, bias=value)


def _normal(layer: nn.Conv2d | nn.Linear, *, std: float, bias: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
