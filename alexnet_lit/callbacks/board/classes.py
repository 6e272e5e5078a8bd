"""How much of each class is found."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from alexnet_lit.callbacks.board.gallery import short
from alexnet_lit.callbacks.fonts import fonts
from alexnet_lit.callbacks.style import BLUE, GRID, INK, blank

_MOST = 30


@fonts()
def classes(confusion: Tensor, names: Sequence[str], title: str) -> Figure:
    """A bar for each class that has images, the least accurate first, by int64 counts (classes, classes) with a row a
    true class; of more than 30 classes those 30 that fare worst.
    """
    counts = confusion.sum(1).tolist()
    found = [
        (right / count, name)
        for right, count, name in zip(confusion.diagonal().tolist(), counts, names, strict=True)
        if count
    ]
    worst = sorted(found)[:_MOST]
    figure = blank(5, 0.8 + 0.22 * len(worst), dpi=80)
    axes = figure.subplots()
    part = f", the {_MOST} lowest of {len(found)}" if len(found) > _MOST else ""
    axes.set_title(f"{title}{part}", loc="left", fontsize=9, fontweight="bold", color=INK)
    axes.barh(range(len(worst)), [share for share, _ in worst], height=0.7, color=BLUE)
    for row, (share, _) in enumerate(worst):
        axes.text(share + 0.01, row, f"{100 * share:.1f}%", va="center", fontsize=8, color=INK, in_layout=False)
    axes.set_yticks(range(len(worst)), [short(name) for _, name in worst], fontsize=8)
    axes.set(xlim=(0, 1.12), ylim=(len(worst) - 0.5, -0.5), xticks=(0, 0.5, 1))
    axes.tick_params(colors=INK, length=0, labelsize=8)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure
