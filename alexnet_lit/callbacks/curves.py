"""curves.png: loss and accuracy of a run, at the size of a README."""

import io
import math
import os
import tempfile
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from alexnet_lit.callbacks.style import COLOURS, GREY, GRID, INK, NAMES, blank
from alexnet_lit.errors import writing

Points = dict[str, list[tuple[int, float]]]

_CROWDED = 60  # points from which a curve is noise around its mean


def draw(points: Points, path: Path, title: str) -> None:
    """Write the PNG: "train/loss", "val/loss", "test/loss" and the same of "acc", against the global step.

    A run without points, with one, or with NaN among them has its picture too. The file appears whole or not at all.
    """
    figure = blank(10, 4.2, dpi=160)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.06)  # type: ignore[union-attr, call-arg] # constrained
    figure.suptitle(title, x=0.013, ha="left", fontsize=13, fontweight="bold", color=INK)
    for axes, (metric, name) in zip(figure.subplots(1, 2), (("loss", "Loss"), ("acc", "Accuracy")), strict=True):
        _panel(axes, points, metric, name)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    _write(path, png.getvalue())


def _panel(axes: Axes, points: Points, metric: str, name: str) -> None:
    axes.set_title(name, loc="left", fontsize=11, color=INK)
    axes.set_xlabel("step", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=GREY)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, 1.02 * max((step for curve in points.values() for step, _ in curve), default=0) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lines = [line for stage in COLOURS if (line := _curve(axes, stage, points.get(f"{stage}/{metric}", [])))]
    if lines:
        axes.legend(handles=lines, loc="best", fontsize=9, labelcolor=INK, framealpha=0.85, edgecolor="none")
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=GREY)


def _curve(axes: Axes, stage: str, curve: list[tuple[int, float]]) -> Line2D | None:
    """One stage's line, its newest value in the legend. None where there is nothing to draw."""
    steps = [step for step, _ in curve]
    values = [value if math.isfinite(value) else math.nan for _, value in curve]  # an infinite one has no place either
    if all(math.isnan(value) for value in values):
        return None
    colour, label = COLOURS[stage], f"{NAMES[stage]}  {curve[-1][1]:.3f}"
    if stage == "test" and len(curve) == 1:
        return axes.axhline(values[0], color=colour, linewidth=1.2, linestyle=(0, (4, 3)), label=label)
    if len(curve) > _CROWDED:
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.3)
        return axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=label)[0]
    size = 3 if stage == "train" and len(curve) > 1 else 5
    return axes.plot(steps, values, color=colour, linewidth=1.8, marker="o", markersize=size, label=label)[0]


def _smooth(values: list[float]) -> list[float]:
    """Mean over a window centred on each point, a thirtieth of the curve on either side, NaN left out."""
    reach = max(1, len(values) // 30)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    numbers = ([value for value in window if not math.isnan(value)] for window in windows)
    return [sum(window) / len(window) if window else math.nan for window in numbers]


def _write(path: Path, content: bytes) -> None:
    """Beside its place first, then moved: nobody ever opens half a picture."""
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(name, 0o644)  # mkstemp's is for the owner alone
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
