"""What each layer of a net passes on for one image."""

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from alexnet_lit.callbacks.board.picture import scaled
from alexnet_lit.callbacks.style import GREY, INK, blank
from alexnet_lit.callbacks.twin import twin

_MAPS, _SIDE, _GAP = 16, 40, 2  # of a layer the first so many maps are shown, of so many px


def activations(net: nn.Module, image: Tensor) -> Figure:
    """The image (C, S, S), as the net sees it, and what each layer with weights passes on, its activation,
    normalisation and pooling included: the first 16 maps of a convolution, all units of a linear layer. Black is
    a strip's least value, white its greatest.
    """
    strips = {"image": image[None].float().cpu(), **_outputs(net, image)}
    figure = blank(8, 0.48 * len(strips) + 0.1, dpi=80)
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for row, (name, values) in zip(axes, strips.items(), strict=True):
        row.imshow(_strip(values).numpy(), cmap="gray", vmin=0, vmax=255, aspect="equal", interpolation="nearest")
        row.set(xticks=[], yticks=[])
        row.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK)
        row.spines[:].set_color(GREY)
    return figure


def _outputs(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Of each layer with weights, by its name: the last maps (1, K, h, w) or units (1, K) before the next such layer.

    On the CPU.
    """
    copy, outputs, name = twin(net).eval(), dict[str, Tensor](), ""

    def note(path: str, layer: nn.Module, output: Any) -> None:
        nonlocal name
        if not isinstance(output, Tensor) or output.ndim not in (2, 4):
            return
        if isinstance(layer, nn.Conv2d | nn.Linear) or not name:
            name = path.rpartition(".")[2]
        outputs[name] = output.detach().float().cpu().clone()  # what follows may overwrite it

    for path, layer in copy.named_modules():
        if not any(layer.children()):
            layer.register_forward_hook(lambda layer, _, output, path=path: note(path, layer, output))
    with torch.no_grad():
        copy(image[None].to(next(net.parameters())))  # after a fit the net has left its device
    return outputs


def _strip(values: Tensor) -> Tensor:
    """Maps (1, K, h, w) side by side, or units (1, K) in rows of equal length: uint8 (40, 670)."""
    width = _MAPS * (_SIDE + _GAP) - _GAP
    if values.ndim == 2:
        rows = next(n for n in (16, 8, 4, 2, 1) if values.shape[1] % n == 0)
        return scaled(F.interpolate(values.view(1, 1, rows, -1), size=(_SIDE, width)))[0, 0]
    maps = F.interpolate(values[:, :_MAPS], size=(_SIDE, _SIDE), mode="area")[0]  # (k, 40, 40)
    maps = scaled(maps[None])[0]
    strip = torch.full((_SIDE, width), 255, dtype=torch.uint8)
    for n, one in enumerate(maps):
        strip[:, n * (_SIDE + _GAP) : n * (_SIDE + _GAP) + _SIDE] = one
    return strip
