"""The part of a net that one device holds where several hold it together."""

import copy
from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from alexnet_lit.distributed.towers.exchange import BorderNorm, Exchange, Group, SharedDropout, SummedLinear
from alexnet_lit.errors import UserError
from alexnet_lit.nets import LocalResponseNorm

Way = Literal["towers", "hybrid"]
# They treat each channel or unit by itself, so that a part needs nothing from the others.
_LOCAL = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


class Part(nn.Module):
    """One device's part of a net that is a row of convolutions, then linear layers: images (B, C, S, S) -> logits.

    towers: a device has its share of each convolution's kernels and of each hidden linear layer's units, and sees all
    images (Krizhevsky et al. 2012, section 3.5). A grouped convolution stays within its tower. Before any other one (in
    the paper's net, conv3) and before each hidden linear layer the channels or units of all are exchanged. The last
    layer takes the units that its device has, and the sums of all are added up. Departure from the paper, which says
    nothing of it: local response normalisation looks across the border of the towers as it does on one device, for
    which the few channels on each side of it are exchanged too.

    hybrid: a device has all kernels, for its share of the images, and its share of the units, for all images: scheme
    (a) of Krizhevsky 2014, "One weird trick". The gradients of kernels are summed.

    Layers keep the names that they have in the net; what exchanges stands between them. Weights are copies.
    Raises: UserError if the net can't be split so.
    """

    def __init__(self, net: nn.Module, group: Group, way: Way) -> None:
        super().__init__()
        self.group = group
        self.way = way
        features, classifier = (getattr(net, name, None) for name in ("features", "classifier"))
        if not (
            isinstance(features, nn.Sequential)
            and isinstance(classifier, nn.Sequential)
            and isinstance(classifier[-1], nn.Linear)
        ):
            raise mistake(way, f"{type(net).__name__} is no row of convolutions, then of linear layers")
        if way == "towers":
            self.features = _split(features, group, way, divided=False)
        else:
            self.features = copy.deepcopy(features)
            for parameter in self.features.parameters():
                parameter.register_hook(group.add)
        self.classifier = _split(classifier, group, way, divided=way == "towers")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S), the same on all devices -> logits (B, classes), the same on all devices."""
        if self.way == "towers":
            x = self.features(images).flatten(1)  # (B, 4608) of the paper's 9216 at 224 px
        else:
            share = -(-len(images) // self.group.size)
            mine = images[self.group.part * share :][:share]
            x = self.group.gather(self.features(mine).flatten(1), 0, len(images))
        logits: Tensor = self.classifier(x)
        return logits


def mistake(way: Way, reason: str, way_out: str = "") -> UserError:
    """What stands against holding a net together this way, and a way out beside giving that up."""
    return UserError(
        f"trainer.strategy={way}: {reason}: use {f'{way_out}, or ' if way_out else ''}trainer.strategy=auto"
    )


def _split(layers: nn.Sequential, group: Group, way: Way, *, divided: bool) -> nn.Sequential:
    """This part's layers. divided: of what comes in, each part has its own channels or units, else each has all."""
    row: OrderedDict[str, nn.Module] = OrderedDict()
    outputs = 0  # of the last layer with weights
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Linear) and layer is layers[-1]:
            row[name] = _summed(layer, group) if divided else copy.deepcopy(layer)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            outputs, groups = len(layer.weight), getattr(layer, "groups", 1)
            if outputs % group.size or (groups > 1 and (groups % group.size or not divided)):
                raise mistake(way, f"{name} with its {outputs} outputs does not divide over {group.size} devices")
            if divided and groups == 1:
                row[f"exchange_{name}"] = Exchange(group)
            row[name] = _shared(layer, group)
            divided = True
        elif isinstance(layer, LocalResponseNorm) and divided:
            if layer.size // 2 > outputs // group.size:
                raise mistake(way, f"with model.lrn_size={layer.size} windows of {name} reach beyond the other tower")
            row[name] = BorderNorm(layer, group)
        elif isinstance(layer, nn.Dropout) and divided:
            row[name] = SharedDropout(layer.p, group)
        elif isinstance(layer, (*_LOCAL, nn.Dropout)):
            row[name] = copy.deepcopy(layer)
        else:
            raise mistake(way, f"there is no way to split {name}, a {type(layer).__name__}")
    return nn.Sequential(row)


def _shared(layer: nn.Conv2d | nn.Linear, group: Group) -> nn.Module:
    """The layer with this part's share of its outputs; of a grouped convolution, its groups with their inputs."""
    part = copy.deepcopy(layer, {id(parameter): parameter for parameter in layer.parameters()})
    if isinstance(part, nn.Linear):
        part.out_features //= group.size
    else:
        part.out_channels //= group.size
    if isinstance(part, nn.Conv2d) and part.groups > 1:
        part.in_channels //= group.size
        part.groups //= group.size
    for name, parameter in layer.named_parameters():
        setattr(part, name, _copy(parameter, group.share(parameter, 0)))
    return part


def _summed(layer: nn.Linear, group: Group) -> SummedLinear:
    """The last layer with this part's share of its inputs, and all of its biases."""
    part = SummedLinear(layer.in_features // group.size, layer.out_features, group)
    part.weight = _copy(layer.weight, group.share(layer.weight, 1))
    part.bias = None if layer.bias is None else _copy(layer.bias, layer.bias)
    return part


def _copy(parameter: Tensor, share: Tensor) -> nn.Parameter:
    return nn.Parameter(share.detach().clone(), parameter.requires_grad)
