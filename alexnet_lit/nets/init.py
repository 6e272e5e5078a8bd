"""All initialisation in one place: a net's weights before the first step."""

from typing import Literal

from torch import nn

Activation = Literal["relu", "tanh", "sigmoid"]
Init = Literal["xavier", "kaiming", "paper_2012", "code_2012", "caffe"]

# Normal weights, by standard deviation: of the convolutions, the hidden linear layers and the last one. And the bias of
# conv2, conv4, conv5 and the hidden linear layers, which gives their ReLUs positive inputs at first. Others are 0.
ALEXNET = {
    # Krizhevsky et al. 2012, section 5.
    "paper_2012": ((0.01, 0.01, 0.01, 0.01, 0.01), 0.01, 0.01, 1.0),
    # The code that was released with it.
    "code_2012": ((0.01, 0.01, 0.03, 0.03, 0.03), 0.01, 0.01, 1.0),
    # Caffe's bvlc_alexnet: with a bias of 1 its loss stayed flat.
    "caffe": ((0.01, 0.01, 0.01, 0.01, 0.01), 0.005, 0.01, 0.1),
}


def initialise(net: nn.Module, init: Init, activation: Activation) -> None:
    """Fill the convolution and linear layers of `net` in place, from torch's global generator.

    xavier: Xavier-uniform weights, torch's own biases, as *Dive into Deep Learning* does.
    kaiming: He et al. 2015, normal, fan-in, gain of the activation, zero biases. The last layer is zero, so that a
    fresh net gives every class the same chance, a loss of ln(classes).
    paper_2012, code_2012, caffe: see ALEXNET. Raises: ValueError for a net that is not five convolutions and three
    linear layers.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if init == "xavier":
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        return
    if init == "kaiming":
        gain = nn.init.calculate_gain(activation)
        deviations = (*(gain / layer.weight[0].numel() ** 0.5 for layer in layers[:-1]), 0.0)
        biases = (0.0,) * len(layers)
    else:
        convolutions, hidden, last, bias = ALEXNET[init]
        deviations, biases = (*convolutions, hidden, hidden, last), (0.0, bias, 0.0, bias, bias, bias, bias, 0.0)
        if len(layers) != len(biases):
            raise ValueError(f"init={init}: is for five convolutions and three linear layers: use xavier or kaiming")
    for layer, std, value in zip(layers, deviations, biases, strict=True):
        nn.init.normal_(layer.weight, std=std)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, value)
