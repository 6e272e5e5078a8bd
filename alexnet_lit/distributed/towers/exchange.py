"""Layers that exchange what the parts of a net have: where several devices hold it together."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from alexnet_lit.nets import LocalResponseNorm


@dataclass(frozen=True)
class Group:
    """The devices that hold one net together, seen from that which holds part number `part` of `size`.

    What crosses between them is a DTensor whose placement changes: torch's public way to collectives that know their
    own gradient, the same on gloo and NCCL. (`torch.distributed.nn.functional` is deprecated, what is to follow it is
    private.) mesh: None for a part that is built only to see whether it can be.
    """

    size: int
    part: int
    mesh: DeviceMesh | None = None

    def gather(self, x: Tensor, dim: int, length: int) -> Tensor:
        """The whole of a tensor that is split in `dim` as torch.chunk would, `length` long there, to all devices.

        Each device adds its share to the gradient; the sum is split again.
        """
        x = x.contiguous()
        shape = torch.Size((*x.shape[:dim], length, *x.shape[dim + 1 :]))
        stride = torch.empty(shape, device="meta").stride()
        split = DTensor.from_local(x, self.mesh, [Shard(dim)], shape=shape, stride=stride)
        return split.redistribute(placements=[Replicate()]).to_local(grad_placements=[Partial()])

    def gather_channels(self, x: Tensor) -> Tensor:
        """The channels or units of all parts: (B, C / size, ...) -> (B, C, ...). Images stay in channels last."""
        x = x.movedim(1, -1)
        return self.gather(x, x.ndim - 1, self.size * x.shape[-1]).movedim(-1, 1)

    def add(self, x: Tensor) -> Tensor:
        """The sum over all parts. All devices go on with it alike, so that its gradient is that of each summand."""
        return DTensor.from_local(x, self.mesh, [Partial()]).redistribute(placements=[Replicate()]).to_local()

    def share(self, x: Tensor, dim: int) -> Tensor:
        """This part's share of a tensor that each device has: a view."""
        return x.chunk(self.size, dim)[self.part]


class Exchange(nn.Module):
    """The channels or units of all parts, for a layer that sees them all: (B, C / size, ...) -> (B, C, ...)."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """From each part's own to all."""
        return self.group.gather_channels(x)


class BorderNorm(nn.Module):
    """Local response normalisation in one of two towers, with the other's channels that its windows reach.

    Shape: (B, C / 2, H, W) -> (B, C / 2, H, W).
    """

    def __init__(self, norm: LocalResponseNorm, group: Group) -> None:
        super().__init__()
        self.norm = norm
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Normalise across channels and the border between the towers."""
        reach, own, first = self.norm.size // 2, x.shape[1], self.group.part == 0
        if reach:
            border = self.group.gather_channels(x[:, -reach:] if first else x[:, :reach])
            below, above = border.split(reach, 1)
            x = torch.cat([x, above] if first else [below, x], 1)
        out: Tensor = self.norm(x)
        return out.narrow(1, 0 if first else reach, own)


class SharedDropout(nn.Dropout):
    """Dropout of a part's units by its share of the very mask that one device draws for the whole layer.

    The devices' generators have to be in the same state. Shape: (B, units / size) -> (B, units / size).
    """

    def __init__(self, p: float, group: Group) -> None:
        super().__init__(p)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Drop units and scale the rest, in training."""
        if not self.training:
            return x
        mask = F.dropout(x.new_ones(len(x), self.group.size * x.shape[1]), self.p)
        return x * self.group.share(mask, 1)


class SummedLinear(nn.Linear):
    """A linear layer of which each part does the inputs that it has. Shape: (B, inputs / size) -> (B, outputs)."""

    def __init__(self, inputs: int, outputs: int, group: Group) -> None:
        super().__init__(inputs, outputs, device="meta")  # whoever makes it brings the weights
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Add up the sums of all parts, then the bias."""
        out = self.group.add(F.linear(x, self.weight))
        return out if self.bias is None else out + self.bias
