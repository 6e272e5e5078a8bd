"""The part of a net that one device holds under model parallelism."""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from alexnet_lit.errors import UserError
from alexnet_lit.nets import LocalResponseNorm

Way = Literal["towers", "hybrid"]
# Layers that treat each channel or unit by itself.
_LOCAL = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True)
class DeviceGroup:
    """The `size` devices that hold one net together; this one holds part number `part`.

    Collectives are changes of a DTensor's placement: torch's public way to those with a gradient.
    mesh: None for a part that is built only to check that it can be.
    """

    size: int
    part: int
    mesh: DeviceMesh | None = None

    def all_gather(self, x: Tensor, dim: int, length: int) -> Tensor:
        """Concatenate all parts of a tensor that torch.chunk split in `dim`, where it is `length` long.

        The gradient is the sum over all devices, split again.
        """
        x = x.contiguous()
        shape = torch.Size((*x.shape[:dim], length, *x.shape[dim + 1 :]))
        stride = torch.empty(shape, device="meta").stride()
        split = DTensor.from_local(x, self.mesh, [Shard(dim)], shape=shape, stride=stride)
        return split.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])

    def gather_channels(self, x: Tensor) -> Tensor:
        """Channels or units of all parts: (B, C / size, ...) -> (B, C, ...). Images stay in channels last."""
        x = x.movedim(1, -1)
        return self.all_gather(x, x.ndim - 1, self.size * x.shape[-1]).movedim(-1, 1)

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum over all parts. Its gradient is that of each summand."""
        return DTensor.from_local(x, self.mesh, [Partial()]).redistribute(placements=[Replicate()]).to_local()

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This device's chunk of a tensor that is replicated on all devices, as a view."""
        return x.chunk(self.size, dim)[self.part]


class Exchange(nn.Module):
    """Gather the channels or units of all parts."""

    def __init__(self, group: DeviceGroup) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """(B, C / size, ...) -> (B, C, ...)."""
        return self.group.gather_channels(x)


class BorderNorm(nn.Module):
    """Local response normalisation in one of two towers, whose windows reach into the channels of the other."""

    def __init__(self, norm: LocalResponseNorm, group: DeviceGroup) -> None:
        super().__init__()
        self.norm, self.group = norm, group

    def forward(self, x: Tensor) -> Tensor:
        """(B, C / 2, H, W) -> (B, C / 2, H, W)."""
        reach, own, first = self.norm.size // 2, x.shape[1], self.group.part == 0
        if reach:
            border = self.group.gather_channels(x[:, -reach:] if first else x[:, :reach])
            below, above = border.split(reach, 1)
            x = torch.cat([x, above] if first else [below, x], 1)
        out: Tensor = self.norm(x)
        return out.narrow(1, 0 if first else reach, own)


class SharedDropout(nn.Dropout):
    """Dropout with this device's slice of one common mask. All devices' generators have to be in the same state."""

    def __init__(self, p: float, group: DeviceGroup) -> None:
        super().__init__(p)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """(B, units / size) -> the same."""
        if not self.training:
            return x
        mask = F.dropout(x.new_ones(len(x), self.group.size * x.shape[1]), self.p)
        return x * self.group.own(mask, 1)


class SummedLinear(nn.Linear):
    """A row-parallel linear layer: each device multiplies its share of the inputs, and the products are summed."""

    def __init__(self, layer: nn.Linear, group: DeviceGroup) -> None:
        super().__init__(layer.in_features // group.size, layer.out_features, device="meta")
        self.group = group
        self.weight = _copy(layer.weight, group.own(layer.weight, 1))
        self.bias = None if layer.bias is None else _copy(layer.bias, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs / size) -> (B, outputs)."""
        out = self.group.all_reduce(F.linear(x, self.weight))
        return out if self.bias is None else out + self.bias


class Part(nn.Module):
    """One device's part of a net with `features` and `classifier`: images (B, C, S, S) -> logits (B, classes).

    towers (Krizhevsky et al. 2012, section 3.2): a device has its share of each layer's kernels or units, and sees all
    images. Before an ungrouped convolution (conv3 in the paper's net) and each hidden linear layer, the outputs of all
    devices are gathered; the last layer sums over devices.

    hybrid (Krizhevsky 2014, "One weird trick", scheme (a)): a device has all kernels, for its share of the images, and
    its share of the units, for all images. The gradients of kernels are summed.

    Layers keep their names; weights are copies. Raises: UserError if the net can't be split this way.
    """

    def __init__(self, net: nn.Module, group: DeviceGroup, way: Way) -> None:
        super().__init__()
        self.group, self.way = group, way
        features, classifier = getattr(net, "features", None), getattr(net, "classifier", None)
        if not isinstance(features, nn.Sequential) or not isinstance(classifier, nn.Sequential):
            raise refusal(way, f"{type(net).__name__} is no row of convolutions, then of linear layers")
        if way == "towers":
            self.features = _split(features, group, way, divided=False)
        else:
            self.features = copy.deepcopy(features)
            for parameter in self.features.parameters():
                parameter.register_hook(group.all_reduce)
        self.classifier = _split(classifier, group, way, divided=way == "towers")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, S, S), the same on all devices -> logits (B, classes), the same on all devices."""
        if self.way == "towers":
            x = self.features(images).flatten(1)  # (B, 4608) of the paper's 9216 at 224 px
        else:
            share = -(-len(images) // self.group.size)
            mine = images[self.group.part * share :][:share]
            x = self.group.all_gather(self.features(mine).flatten(1), 0, len(images))
        return self.classifier(x)


def refusal(way: Way, reason: str, instead: str = "") -> UserError:
    """The error of a run that can't be split this way; `instead`: what to change beside the strategy."""
    either = f"{instead}, or " if instead else ""
    return UserError(f"trainer.strategy={way}: {reason}: use {either}trainer.strategy=auto")


def _split(layers: nn.Sequential, group: DeviceGroup, way: Way, *, divided: bool) -> nn.Sequential:
    """This part's layers. divided: each part has its own channels or units of the input, rather than all of them."""
    row: OrderedDict[str, nn.Module] = OrderedDict()
    outputs = 0  # of the last layer that has weights
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Linear) and layer is layers[-1]:
            row[name] = SummedLinear(layer, group) if divided else copy.deepcopy(layer)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            outputs, groups = len(layer.weight), getattr(layer, "groups", 1)
            if outputs % group.size or (groups > 1 and (groups % group.size or not divided)):
                raise refusal(way, f"{name} with its {outputs} outputs does not divide over {group.size} devices")
            if divided and groups == 1:
                row[f"exchange_{name}"] = Exchange(group)
            row[name] = _own_outputs(layer, group)
            divided = True
        elif isinstance(layer, LocalResponseNorm) and divided:
            if layer.size // 2 > outputs // group.size:
                raise refusal(way, f"with model.lrn_size={layer.size} windows of {name} reach beyond the other tower")
            row[name] = BorderNorm(layer, group)
        elif isinstance(layer, nn.Dropout) and divided:
            row[name] = SharedDropout(layer.p, group)
        elif isinstance(layer, (*_LOCAL, nn.Dropout)):
            row[name] = copy.deepcopy(layer)
        else:
            raise refusal(way, f"there is no way to split {name}, a {type(layer).__name__}")
    return nn.Sequential(row)


def _own_outputs(layer: nn.Conv2d | nn.Linear, group: DeviceGroup) -> nn.Module:
    """The layer with this part's share of its outputs; a grouped convolution, with its share of the groups."""
    part = copy.deepcopy(layer, {id(parameter): parameter for parameter in layer.parameters()})
    if isinstance(part, nn.Linear):
        part.out_features //= group.size
    else:
        part.out_channels //= group.size
    if isinstance(part, nn.Conv2d) and part.groups > 1:
        part.in_channels //= group.size
        part.groups //= group.size
    for name, parameter in layer.named_parameters():
        setattr(part, name, _copy(parameter, group.own(parameter, 0)))
    return part


def _copy(parameter: Tensor, share: Tensor) -> nn.Parameter:
    return nn.Parameter(share.detach().clone(), parameter.requires_grad)
