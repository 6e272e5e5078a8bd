"""Images with a caption each."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from alexnet_lit.callbacks.fonts import drawable, fonts
from alexnet_lit.callbacks.style import INK, VERMILION, blank

_COLUMNS = 8
_LETTERS = 16  # of a class's name there is room for so many


@fonts()
def gallery(images: Tensor, captions: Sequence[Sequence[str]], title: str) -> Figure:
    """Images uint8 (N, s, s, 3) in rows of eight, below each its lines: the first in ink, the next in vermilion."""
    columns = min(_COLUMNS, len(images))
    rows, lines = -(-len(images) // columns), max(map(len, captions))
    height = 1 + 0.17 * lines
    figure = blank(max(3, columns), rows * height + 0.3, dpi=80)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.set_axis_off()
    for n, (one, texts) in enumerate(zip(images, captions, strict=True)):
        left, top = n % columns, n // columns * height
        axes.imshow(one.numpy(), extent=(left, left + 0.92, top + 0.92, top))
        for line, (text, colour) in enumerate(zip(texts, (INK, VERMILION), strict=False)):
            axes.text(left, top + 0.95 + 0.16 * line, short(text), fontsize=7, va="top", color=colour, in_layout=False)
    axes.set(xlim=(0, max(3, columns)), ylim=(rows * height, 0))
    return figure


def short(name: str) -> str:
    """A class's name, at most so long as there is room for."""
    name = drawable(name)
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
