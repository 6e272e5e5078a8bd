"""Figures: curves.png, confusion matrices, and their fonts and colours."""

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from alexnet_lit.errors import writing

INK, GREY, GRID = "#262626", "#8c8c8c", "#e6e6e6"
# Blue and vermilion of Okabe and Ito (2008) differ for every kind of colour vision, and in lightness.
BLUE, VERMILION = "#0072B2", "#D55E00"
STAGES = {"train": ("training", BLUE), "val": ("validation", VERMILION), "test": ("test", "#404040")}

_CROWDED = 60  # points from which a curve is drawn with its running mean
_NAMED = 30  # classes up to which a confusion matrix has room for names and counts

# Font files with Chinese characters, by the beginnings of their names, the best first.
_CJK = (
    *("notosanscjk", "notosanssc", "sourcehansans", "wqy-", "pingfang", "hiraginosansgb", "stheiti", "msyh", "simhei"),
    *("droidsansfallback", "arialuni", "arial unicode", "uming"),
)
_OWN = "DejaVu Sans"  # comes with matplotlib; it has the minus sign


logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it warns of a font that has no bold


@functools.cache
def chinese() -> str | None:
    """The family of a font with Chinese characters, None if the machine has none."""
    files = {Path(path).name.lower(): path for path in font_manager.findSystemFonts()}
    names = sorted(files, key=lambda name: ("regular" not in name, name))
    for start in _CJK:
        if found := next((name for name in names if name.startswith(start)), None):
            font_manager.fontManager.addfont(files[found])
            return str(font_manager.FontProperties(fname=files[found]).get_name())
    return None


@functools.cache
def _characters() -> frozenset[int]:
    files = [font_manager.findfont(family) for family in (_OWN, chinese()) if family is not None]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())


def drawable(text: str) -> str:
    """The text with a question mark for each character that no font here has, instead of an empty box."""
    have = _characters()
    return "".join(letter if ord(letter) in have or letter.isspace() else "?" for letter in text)


@contextmanager
def fonts() -> Iterator[None]:
    """Draw each character in the first font that has it, and a dollar sign as one."""
    with rc_context({"font.family": [_OWN, *filter(None, [chinese()])], "text.parse_math": False}):
        yield


def blank(width: float, height: float, *, dpi: int) -> Figure:
    """A white figure of so many inches, which no backend of pyplot knows of."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@fonts()
def draw_confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], path: Path, title: str) -> None:
    """Write the PNG of `confusion`."""
    confusion(matrix, classes, title, dpi=120).savefig(path, format="png")


@fonts()
def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str, *, dpi: int) -> Figure:
    """True classes by row, predicted ones by column; the colour is the share of the row, the number the count.

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
    if len(classes) > _NAMED:
        axes.set(xticks=[], yticks=[])
        return figure
    names = [drawable(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.tick_params(colors=INK, length=0)
    for row, counts in enumerate(matrix):
        for column, count in enumerate(counts):
            colour = "white" if shares[row][column] > 0.5 else INK if count else GREY
            text = axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=colour)
            text.set_in_layout(False)  # it needs no room of its own, and to measure it takes time
    return figure


Points = dict[str, list[tuple[int, float]]]


def draw_curves(points: Points, path: Path, title: str) -> None:
    """Write the PNG of "train/loss", "val/loss", "test/loss" and the same of "acc" against the global step.

    Points may be missing or NaN. Raises: UserError where the disk refuses; an earlier picture stays then.
    """
    figure = blank(10, 4.2, dpi=160)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08, wspace=0.06)  # type: ignore[union-attr, call-arg] # `blank` has set the constrained one
    figure.suptitle(title, x=0.013, ha="left", fontsize=13, fontweight="bold", color=INK)
    for axes, (metric, name) in zip(figure.subplots(1, 2), (("loss", "Loss"), ("acc", "Accuracy")), strict=True):
        _panel(axes, points, metric, name)
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path):
            figure.savefig(part, format="png")
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    lines = [line for stage in STAGES if (line := _curve(axes, stage, points.get(f"{stage}/{metric}", [])))]
    if lines:
        axes.legend(handles=lines, loc="best", fontsize=9, labelcolor=INK, framealpha=0.85, edgecolor="none")
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=GREY)


def _curve(axes: Axes, stage: str, curve: list[tuple[int, float]]) -> Line2D | None:
    """One stage's line, its newest value in the legend. None where there is nothing to draw."""
    steps = [step for step, _ in curve]
    values = [value if math.isfinite(value) else math.nan for _, value in curve]
    if all(map(math.isnan, values)):
        return None
    name, colour = STAGES[stage]
    label = f"{name}  {curve[-1][1]:.3f}"
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
