"""The panels of the report's picture: a learning curve each, and effects with their intervals."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alexnet_lit.report.figures import MINUS
from alexnet_lit.report.lines import Line, images_a_step, line_of
from alexnet_lit.report.section import label_of
from alexnet_lit.report.significance import Difference
from alexnet_lit.report.study import Study
from alexnet_lit.report.words import Words
from alexnet_lit.watch.fonts import drawable

# On white and, second, on dark grey; told apart with any kind of colour vision as far as ten can be (after Okabe and
# Ito 2008). The first is the baseline's.
COLOURS = (
    *(("#4d4d4d", "#c9c9c9"), ("#0072b2", "#4aa8e0"), ("#d55e00", "#f0843c"), ("#009e73", "#2fc79c")),
    *(("#b8559a", "#e08cc4"), ("#c98a00", "#eeb43c"), ("#56a8d8", "#8fd0f5"), ("#6a3d9a", "#a983d6")),
    *(("#8c6d31", "#c7a866"), ("#a80f2c", "#ee6680")),
)
_FEW = 12  # differences that a panel has room for
INK, GREY, RULE = "#262626", "#8c8c8c", "#e6e6e6"


class Panel(NamedTuple):
    """What draws it, and the inches that it is high."""

    draw: Callable[[Axes], None]
    height: float = 3.4


class Effects(NamedTuple):
    """What the last panel shows: names, effects in percentage points, and the paper's where it gives one."""

    title: str
    names: list[str]
    found: list[Difference]
    claims: list[float | None]


def panels_of(study: Study, chosen: Sequence[int], text: Words) -> list[Panel]:
    """Accuracy, loss and training loss of the chosen experiments, then effects; none that would be empty."""
    scale = images_a_step(study.experiments)
    along = text("images" if scale else "steps")
    panels = []
    for tag in (f"{study.stage}/acc", f"{study.stage}/loss", "train/loss"):
        lines = [line_of(study.experiments[n], tag, scale) for n in chosen]
        if any(line.x.size or line.broken for line in lines):
            panels.append(_curves(lines, text(f"curve {tag}" if tag.startswith("test") else tag), along))
    effects = _effects(study, text)
    if effects.names:
        height = max(3.4, 1 + 0.42 * len(effects.names))
        panels.append(Panel(lambda axes: _forest(axes, effects, text), height))
    return panels


def short(name: str, length: int = 60) -> str:
    """A name that fits, of characters that can be drawn."""
    return drawable(name if len(name) <= length else f"{name[: length - 1]}…")


def _curves(lines: Sequence[Line], title: str, along: str) -> Panel:
    return Panel(lambda axes: _panel(axes, lines, title, along))


def _effects(study: Study, text: Words) -> Effects:
    """The paper's ideas where they were switched, else all differences to the baseline."""
    if study.effects:
        names = [text(effect.idea.name) for effect in study.effects]
        claims = [effect.idea.points for effect in study.effects]
        return Effects(text("ideas_panel"), names, [effect.worth for effect in study.effects], claims)
    pairs = zip(study.experiments, study.differences, strict=True)
    told = [(short(label_of(each, text)), found) for each, found in pairs if found is not None][:_FEW]
    names, found = [name for name, _ in told], [found for _, found in told]
    return Effects(text("differences_panel"), names, found, [None] * len(told))


def _dress(axes: Axes, title: str, along: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(along, fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelcolor=INK, labelsize=9, length=3, color=GREY)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)


def _panel(axes: Axes, lines: Sequence[Line], title: str, along: str) -> None:
    _dress(axes, title, along)
    for n, line in reversed(list(enumerate(lines))):  # the baseline on top
        colour = COLOURS[n][0]
        if line.x.size:
            marker = "o" if line.x.size < 25 else None
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(line.x, line.mean, color=colour, linewidth=1.7, marker=marker, markersize=3.2)
        for x, y in line.broken:
            axes.plot(x, y, color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
            axes.plot(x[-1], y[-1], color=colour, marker="x", markersize=6, linestyle="none")
    axes.set_xlim(left=0)
    if ends := [end for line in lines if line.x.size for end in (line.low.min(), line.high.max())]:
        margin = 0.05 * (max(ends) - min(ends)) or 0.05
        axes.set_ylim(min(ends) - margin, max(ends) + margin)  # one that diverged has no say
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _forest(axes: Axes, effects: Effects, text: Words) -> None:
    """A dot and its interval for each effect, and a diamond for what the paper says.

    One beyond all measure, more than ten times the median, is an arrow with a number: beside it no other could be seen.
    """
    _dress(axes, effects.title, text("points"))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=GREY, linewidth=1)
    dot, diamond = COLOURS[1][0], COLOURS[2][0]
    most = 10 * median(abs(found.value) for found in effects.found) or math.inf
    across = axes.get_yaxis_transform()  # 0 to 1 from left to right
    for n, (name, found, claim) in enumerate(zip(effects.names, effects.found, effects.claims, strict=True)):
        axes.text(0, n - 0.22, name, transform=across, fontsize=9, color=INK)
        if abs(found.value) > most:
            edge, inwards, side = (0.98, -0.03, "right") if found.value > 0 else (0.02, 0.03, "left")
            axes.plot(edge, n, ">" if found.value > 0 else "<", color=dot, markersize=7, transform=across)
            number = f"{found.value:+.1f}".replace("-", MINUS)
            axes.text(edge + inwards, n, number, transform=across, ha=side, va="center", fontsize=9, color=INK)
            continue
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [n, n], color=dot, linewidth=2, solid_capstyle="butt")
        axes.plot(found.value, n, "o", color=dot, markersize=6)
        if claim is not None:
            axes.plot(claim, n, "D", color=diamond, markersize=6, markerfacecolor="none", markeredgewidth=1.5)
    claimed = any(claim is not None for claim in effects.claims)
    axes.set(yticks=[], ylim=(len(effects.names) - 0.5 + claimed, -0.9))  # below, room for a legend
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))
    if claimed:
        handles = [
            Line2D([], [], color=dot, marker="o", linewidth=2, label=text("here")),
            Line2D([], [], color=diamond, marker="D", markerfacecolor="none", linestyle="none", label=text("in_paper")),
        ]
        axes.legend(handles=handles, loc="lower left", ncols=2, fontsize=8, labelcolor=INK, frameon=False)
