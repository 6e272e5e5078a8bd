"""LeNet-5, the traditional CNN that AlexNet is compared with."""

from alexnet_lit.nets.alexnet import Conv, ConvNet, Design


class LeNet(ConvNet):
    """Two 5x5 convolutions, average pooling, three linear layers: 61,706 parameters for one channel and 28 px.

    As *Dive into Deep Learning* builds it, after LeCun et al. 1998: plain average pooling and a linear output layer in
    place of the original's trained subsampling and radial basis functions. AlexNet's ideas are switches here too, see
    ConvNet. Images from 12 px; the first linear layer follows their size.
    """

    design = Design(
        (Conv(6, 5, padding=2, normalised=True, pooled=True), Conv(16, 5, normalised=True, pooled=True)),
        pooling="average",
        hidden=(120, 84),
    )
