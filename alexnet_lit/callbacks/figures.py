"""Figures: curves.png, confusion matrices, and the pictures that TensorBoard shows of a run."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib.style
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from torch import Tensor, nn
from torchvision.utils import make_grid

from alexnet_lit.errors import replacing
from alexnet_lit.nets.cost import trace

INK, GREY = "#262626", "#8c8c8c"
# Blue and vermilion of Okabe and Ito (2008) differ for every kind of colour vision, and in lightness.
BLUE, VERMILION = "#0072B2", "#D55E00"
STAGES = {"train": ("training", BLUE), "val": ("validation", VERMILION), "test": ("test", "#404040")}

_CROWDED = 60  # points from which a curve is drawn with its running mean
_NAMED = 30  # classes up to which a confusion matrix has room for names and counts, and a bar for each is shown
_COLUMNS = 8  # in a gallery
_LETTERS = 16  # maximum length of a class name in figures
_MAPS, _SIDE = 16, 40  # number of a layer's maps shown, and their side in px

_OWN = "DejaVu Sans"  # comes with matplotlib; it has the minus sign
_CHINESE = (  # families, the best first
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "PingFang SC", "PingFang HK", "Hiragino Sans GB", "STHeiti"),
    *("Heiti TC", "Microsoft YaHei", "SimHei", "Droid Sans Fallback", "Arial Unicode MS", "AR PL UMing CN"),
)

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns of a font that has no bold

Points = dict[str, list[tuple[int, float]]]


def families() -> list[str]:
    """The font of matplotlib, and the best Chinese one that this machine has."""
    here = {font.name for font in font_manager.fontManager.ttflist}
    return [_OWN, *[name for name in _CHINESE if name in here][:1]]


@contextmanager
def style() -> Iterator[None]:
    """Draw each character in the first font that has it, a dollar sign as one, and all in the project's colours."""
    fonts = {"font.family": families(), "text.parse_math": False}
    with warnings.catch_warnings(), matplotlib.style.context([Path(__file__).with_suffix(".mplstyle"), fonts]):
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a character that no font has is drawn as a box
        yield


@style()
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, *, dpi: int) -> Figure:
    """True classes by row, predicted ones by column; the colour is the share of the row, the number the count.

    More than 30 classes have colours alone.
    """
    size = 3.2 + 0.55 * min(len(classes), _NAMED)
    figure = _blank(size, size, dpi=dpi)
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title, fontsize=10, fontweight="bold")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.spines[:].set_visible(True)
    if len(classes) > _NAMED:
        axes.set(xticks=[], yticks=[])
        return figure
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.tick_params(length=0)
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            colour = "white" if shares[row][column] > 0.5 else INK if count else GREY
            # It needs no room of its own, and to measure it takes time.
            axes.text(column, row, f"{count:,}", ha="center", va="center", size=8, color=colour, in_layout=False)
    return figure


def _blank(width: float, height: float, *, dpi: int = 80) -> Figure:
    """A figure of that size in inches, not registered with pyplot."""
    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


# ---- curves.png
@style()
def draw_curves(points: Points, path: Path, title: str) -> None:
    """Write the PNG of "train/loss", "val/loss", "test/loss" and the same of "acc" against the global step.

    Points may be missing or NaN. Raises: UserError where the disk refuses; an earlier picture stays then.
    """
    figure = _blank(10, 4.2, dpi=160)
    figure.suptitle(title, x=0.013, ha="left", fontsize=13, fontweight="bold")
    last = max((step for curve in points.values() for step, _ in curve), default=0)
    for axes, (metric, name) in zip(figure.subplots(1, 2), (("loss", "Loss"), ("acc", "Accuracy")), strict=True):
        axes.set(title=name, xlabel="step", xlim=(0, 1.02 * last or 1))
        axes.grid()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        lines = [line for stage in STAGES if (line := _curve(axes, stage, points.get(f"{stage}/{metric}", [])))]
        if lines:
            axes.legend(handles=lines, frameon=True, framealpha=0.85, edgecolor="none")
        else:
            axes.set(xticks=[], yticks=[])
            axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=GREY)
    with replacing(path) as part:
        figure.savefig(part, format="png")


def _curve(axes: Axes, stage: str, curve: list[tuple[int, float]]) -> Line2D | None:
    """One stage's line, its newest value in the legend. None where there is nothing to draw."""
    finite = [(step, value) for step, value in curve if math.isfinite(value)]
    if not finite:
        return None
    steps, values = zip(*finite, strict=True)
    name, colour = STAGES[stage]
    label = f"{name}  {curve[-1][1]:.3f}"
    if stage == "test" and len(curve) == 1:
        return axes.axhline(values[0], color=colour, linewidth=1.2, linestyle=(0, (4, 3)), label=label)
    if len(values) > _CROWDED:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        window = np.ones(2 * (len(values) // 30) + 1)
        means = np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
        return axes.plot(steps, means, color=colour, linewidth=1.8, label=label)[0]
    size = 3 if stage == "train" and len(curve) > 1 else 5
    return axes.plot(steps, values, color=colour, linewidth=1.8, marker="o", markersize=size, label=label)[0]


# ---- TensorBoard's pictures, to be made and drawn in `style`
def class_accuracy(confusion: Tensor, names: Sequence[str], title: str) -> Figure:
    """A bar for each class that has images, the least accurate first, at most 30. confusion: int64 (classes, classes),
    true classes by row.
    """
    counts = zip(confusion.diagonal().tolist(), confusion.sum(1).tolist(), names, strict=True)
    found = sorted((right / count, name) for right, count, name in counts if count)
    shares, labels = zip(*found[:_NAMED], strict=True)
    figure = _blank(5, 0.8 + 0.22 * len(shares))
    axes = figure.subplots()
    part = f", the {_NAMED} lowest of {len(found)}" if len(found) > _NAMED else ""
    axes.set_title(f"{title}{part}", fontsize=9, fontweight="bold")
    bars = axes.barh(range(len(shares)), shares, height=0.7, color=BLUE, tick_label=[*map(short, labels)])
    axes.bar_label(bars, fmt="{:.1%}", padding=3, fontsize=8, in_layout=False)
    axes.set(xlim=(0, 1.12), ylim=(len(shares) - 0.5, -0.5), xticks=(0, 0.5, 1))
    axes.tick_params(length=0, labelsize=8)
    axes.grid(axis="x")
    axes.spines[:].set_visible(False)
    return figure


def gallery(images: Tensor, pixels: nn.Module, captions: Sequence[Sequence[str]], title: str) -> Figure:
    """Images in rows of eight, each with its caption lines below: the first in black, the second in vermilion."""
    columns = min(_COLUMNS, len(images))
    rows, height = -(-len(images) // columns), 1 + 0.17 * max(map(len, captions))
    figure = _blank(max(3, columns), rows * height + 0.3)
    axes = figure.subplots()
    axes.set_title(title, fontsize=9, fontweight="bold")
    axes.set_axis_off()
    for n, (image, texts) in enumerate(zip(visible(images, pixels, 80), captions, strict=True)):
        left, top = n % columns, n // columns * height
        axes.imshow(image.numpy(), extent=(left, left + 0.92, top + 0.92, top))
        for line, (text, colour) in enumerate(zip(texts, (INK, VERMILION), strict=False)):
            axes.text(left, top + 0.95 + 0.16 * line, short(text), fontsize=7, va="top", color=colour, in_layout=False)
    axes.set(xlim=(0, max(3, columns)), ylim=(rows * height, 0))
    return figure


def short(name: str, length: int = _LETTERS) -> str:
    """The name, cut to `length` letters."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def visible(images: Tensor, pixels: nn.Module, side: int) -> Tensor:
    """Normalised images (N, C, S, S) as uint8 (N, s, s, 3) on the CPU, s at most `side` px.

    pixels: the Preprocess that normalised them. Of images that have no three channels the mean is shown in grey.
    """
    mean, std = (torch.as_tensor(value).cpu().view(-1, 1, 1) for value in (pixels.mean, pixels.std))
    values = images.detach().cpu().float() * std + mean  # MPS can't average areas of 224 px to 80 px
    if values.shape[-1] > side:
        values = F.interpolate(values, size=(side, side), mode="area")
    return _rgb((255 * values.clamp(0, 1)).round()).byte().permute(0, 2, 3, 1)


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
    towers = 1 if len(weight) % towers else towers  # depthwise, for instance
    images = F.interpolate(_rgb(weight), scale_factor=max(1, round(33 / weight.shape[-1])))
    grids = partial(make_grid, nrow=16, normalize=True, scale_each=True, pad_value=1)
    sheets = [F.pad(grids(part), (0, 0, 0, 6), value=1) for part in images.chunk(towers)]  # with a gap below
    return torch.cat(sheets, 1)[:, :-6]


def activations(net: nn.Module, image: Tensor) -> Figure:
    """The image (C, S, S), as the net sees it, and what each layer with weights passes on, its activation,
    normalisation and pooling included: the first 16 maps of a convolution, all units of a linear layer.
    """
    strips, name = {"image": image[None].float()}, ""
    for call in trace(net, image[None]):
        if isinstance(call.output, Tensor) and call.output.ndim in (2, 4):
            if isinstance(call.layer, nn.Conv2d | nn.Linear) or not name:
                name = call.name.rpartition(".")[2]
            strips[name] = call.output.float()
    figure = _blank(8, 0.48 * len(strips) + 0.1)
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for row, (name, values) in zip(axes, strips.items(), strict=True):
        row.imshow(_strip(values.cpu()).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        row.set(xticks=[], yticks=[])
        row.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        row.spines[:].set_visible(True)
    return figure


def _strip(values: Tensor) -> Tensor:
    """Maps (1, K, h, w) side by side, or units (1, K) in rows of equal length: float (44, 674) of 0..1."""
    if values.ndim == 2:
        rows = next(n for n in (16, 8, 4, 2, 1) if values.shape[1] % n == 0)
        units = F.interpolate(values.view(1, 1, rows, -1), size=(_SIDE + 4, _MAPS * (_SIDE + 2) + 2))
        return make_grid(units, normalize=True)[0]
    maps = F.interpolate(values[0, :_MAPS, None], size=(_SIDE, _SIDE), mode="area")  # (k, 1, 40, 40)
    blanks = maps.max().expand(_MAPS - len(maps), 1, _SIDE, _SIDE)
    return make_grid(torch.cat([maps, blanks]), nrow=_MAPS, normalize=True, pad_value=1)[0]
