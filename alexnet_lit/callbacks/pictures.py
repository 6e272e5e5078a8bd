"""Pictures for TensorBoard: accuracy of each class, galleries of images, kernels, activations."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn
from torchvision.utils import make_grid

from alexnet_lit.callbacks.figures import BLUE, GREY, GRID, INK, VERMILION, blank, drawable, fonts
from alexnet_lit.callbacks.summary import shared_copy

_BARS = 30  # classes whose accuracy is shown
_COLUMNS = 8  # of a gallery
_LETTERS = 16  # of a class's name
_MAPS, _SIDE = 16, 40  # of a layer the first so many maps are shown, of so many px


@fonts()
def rendered(figure: Figure) -> Tensor:
    """The figure drawn: uint8 (H, W, 3)."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib types its backends in part
    width, height = canvas.get_width_height()
    drawn = canvas.buffer_rgba()  # type: ignore[no-untyped-call] # as above
    return torch.frombuffer(drawn, dtype=torch.uint8).view(height, width, 4)[..., :3].clone()


@fonts()
def class_accuracy(confusion: Tensor, names: Sequence[str], title: str) -> Figure:
    """A bar for each class that has images, the least accurate first, at most 30. confusion: int64 (classes, classes),
    true classes by row.
    """
    counts = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), names, strict=True)
    found = sorted((right / count, name) for right, count, name in counts if count)
    worst = found[:_BARS]
    figure = blank(5, 0.8 + 0.22 * len(worst), dpi=80)
    axes = figure.subplots()
    part = f", the {_BARS} lowest of {len(found)}" if len(found) > _BARS else ""
    axes.set_title(f"{title}{part}", loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.barh(range(len(worst)), [share for share, _ in worst], height=0.7, color=BLUE)
    for row, (share, _) in enumerate(worst):
        axes.text(share + 0.01, row, f"{100 * share:.1f}%", va="center", fontsize=8, color=INK, in_layout=False)
    axes.set_yticks(range(len(worst)), [_short(name) for _, name in worst], fontsize=8)
    axes.set(xlim=(0, 1.12), ylim=(len(worst) - 0.5, -0.5), xticks=(0, 0.5, 1))
    axes.tick_params(colors=INK, length=0, labelsize=8)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure


@fonts()
def gallery(images: Tensor, captions: Sequence[Sequence[str]], title: str) -> Figure:
    """Images uint8 (N, s, s, 3) in rows of eight, below each its lines: the first in ink, the next in vermilion."""
    columns = min(_COLUMNS, len(images))
    rows, height = -(-len(images) // columns), 1 + 0.17 * max(map(len, captions))
    figure = blank(max(3, columns), rows * height + 0.3, dpi=80)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.set_axis_off()
    for n, (image, texts) in enumerate(zip(images, captions, strict=True)):
        left, top = n % columns, n // columns * height
        axes.imshow(image.numpy(), extent=(left, left + 0.92, top + 0.92, top))
        for line, (text, colour) in enumerate(zip(texts, (INK, VERMILION), strict=False)):
            axes.text(left, top + 0.95 + 0.16 * line, _short(text), fontsize=7, va="top", color=colour, in_layout=False)
    axes.set(xlim=(0, max(3, columns)), ylim=(rows * height, 0))
    return figure


def _short(name: str) -> str:
    name = drawable(name)
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def visible(images: Tensor, pixels: nn.Module, side: int) -> Tensor:
    """Normalised images (N, C, S, S) as uint8 (N, s, s, 3) on the CPU, s at most `side` px.

    pixels: the Preprocess that normalised them. Of images that have no three channels the mean is shown in grey.
    """
    mean, std = (torch.as_tensor(value, device=images.device).view(-1, 1, 1) for value in (pixels.mean, pixels.std))
    values = images.detach().float() * std + mean
    if values.shape[-1] > side:
        values = F.interpolate(values, size=(side, side), mode="area")
    return _rgb((255 * values.clamp(0, 1)).round().cpu()).byte().permute(0, 2, 3, 1)


def _rgb(images: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 3, h, w)."""
    return images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)


def kernels(net: nn.Module) -> Tensor | None:
    """The first convolution's kernels, 256 at most, each on its own scale, in rows of 16, towers one below the other
    (Krizhevsky et al. 2012, figure 3): float (3, H, W) of 0..1, or None for a net without a convolution.
    """
    convolutions = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        return None
    weight = convolutions[0].weight.detach()[:256].float().cpu()  # (K, C, h, w)
    towers = max(layer.groups for layer in convolutions)
    if len(weight) % towers:
        towers = 1  # depthwise, for instance
    images = F.interpolate(_rgb(weight), scale_factor=max(1, round(33 / weight.shape[-1])))
    grids = partial(make_grid, nrow=16, normalize=True, scale_each=True, pad_value=1)
    sheets = [grids(part) for part in images.chunk(towers)]
    border = torch.ones(3, 6, sheets[0].shape[2])
    return torch.cat([part for sheet in sheets for part in (border, sheet)][1:], 1)


def activations(net: nn.Module, image: Tensor) -> Figure:
    """The image (C, S, S), as the net sees it, and what each layer with weights passes on, its activation,
    normalisation and pooling included: the first 16 maps of a convolution, all units of a linear layer.
    """
    strips = {"image": image[None].float().cpu(), **_outputs(net, image)}
    figure = blank(8, 0.48 * len(strips) + 0.1, dpi=80)
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for row, (name, values) in zip(axes, strips.items(), strict=True):
        row.imshow(_strip(values).numpy(), cmap="gray", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        row.set(xticks=[], yticks=[])
        row.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, color=INK)
        row.spines[:].set_color(GREY)
    return figure


def _outputs(net: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """By the name of a layer with weights, on the CPU: the last maps (1, K, h, w) or units (1, K) before the next."""
    copy, outputs, name = shared_copy(net), dict[str, Tensor](), ""

    def keep(path: str, layer: nn.Module, output: Any) -> None:
        nonlocal name
        if isinstance(output, Tensor) and output.ndim in (2, 4):
            if isinstance(layer, nn.Conv2d | nn.Linear) or not name:
                name = path.rpartition(".")[2]
            outputs[name] = output.detach().float().cpu().clone()  # a layer in place may write over it

    for path, layer in copy.named_modules():
        if not any(layer.children()):
            layer.register_forward_hook(lambda layer, _, output, path=path: keep(path, layer, output))
    with torch.no_grad():
        copy(image[None].to(next(net.parameters())))  # after a fit the net has left its device
    return outputs


def _strip(values: Tensor) -> Tensor:
    """Maps (1, K, h, w) side by side, or units (1, K) in rows of equal length: float (44, 674) of 0..1."""
    if values.ndim == 2:
        rows = next(n for n in (16, 8, 4, 2, 1) if values.shape[1] % n == 0)
        units = F.interpolate(values.view(1, 1, rows, -1), size=(_SIDE + 4, _MAPS * (_SIDE + 2) + 2))
        return make_grid(units, normalize=True)[0]
    maps = F.interpolate(values[0, :_MAPS, None], size=(_SIDE, _SIDE), mode="area")  # (k, 1, 40, 40)
    least, most = maps.aminmax()
    maps = (maps - least) / (most - least).clamp(min=1e-12)
    blanks = maps.new_ones(_MAPS - len(maps), 1, _SIDE, _SIDE)
    return make_grid(torch.cat([maps, blanks]), nrow=_MAPS, pad_value=1)[0]
