"""Which classes a net takes for which: the confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from alexnet_lit.callbacks.fonts import drawable, fonts
from alexnet_lit.callbacks.style import GREY, INK, blank

_NAMED = 30  # classes up to which there is room for names and numbers


@fonts()
def draw(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str) -> None:
    """Write the PNG of `confusion`."""
    confusion(matrix, classes, title, dpi=120).savefig(path, format="png")


@fonts()
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, *, dpi: int) -> Figure:
    """True classes by row, answers by column; the colour is the share of the row, the number the count.

    More than 30 classes have colours alone.
    """
    size = 3.2 + 0.55 * min(len(classes), _NAMED)
    figure = blank(size, size, dpi=dpi)
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(drawable(title), loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel("answer", fontsize=9, color=INK)
    axes.set_ylabel("true class", fontsize=9, color=INK)
    axes.spines[:].set_color(GREY)
    names = [drawable(name) for name in classes]
    if len(names) > _NAMED:
        axes.set(xticks=[], yticks=[])
    else:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.tick_params(colors=INK, length=0)
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                colour = "white" if shares[row][column] > 0.5 else INK if count else GREY
                text = axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=colour)
                text.set_in_layout(False)  # it needs no room of its own, and to measure it takes time
    return figure
