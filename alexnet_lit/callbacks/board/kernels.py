"""The kernels of the first layer, as Figure 3 of the paper shows them."""

import torch
from torch import Tensor, nn

from alexnet_lit.callbacks.board.picture import coloured, enlarged, scaled, tiles

_COLUMNS, _MOST = 16, 256


def kernels(net: nn.Module) -> Tensor | None:
    """A picture uint8 (H, W, 3) of the first convolution's kernels, each from its least weight to its greatest, in rows
    of 16; where the net is grouped the towers one below the other (Krizhevsky et al. 2012, figure 3). At most 256 of
    them. Kernels for three channels have colours. None for a net without a convolution.
    """
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        return None
    weight = convolutions[0].weight.detach()[:_MOST].float().cpu()  # (K, C, h, w)
    towers = max(layer.groups for layer in convolutions)
    if len(weight) % towers:
        towers = 1  # no towers, then: a group for each channel, perhaps
    images = coloured(enlarged(scaled(weight), 33))
    sheets = [tiles(part, min(_COLUMNS, len(part)), 2) for part in images.chunk(towers)]
    border = torch.full((6, *sheets[0].shape[1:]), 255, dtype=torch.uint8)
    return torch.cat([part for sheet in sheets for part in (border, sheet)][1:])
