"""The report's picture: learning curves with bands, and effects with their intervals."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from alexnet_lit.report.figures import MINUS
from alexnet_lit.report.lines import Line, images_a_step, line_of
from alexnet_lit.report.section import label_of
from alexnet_lit.report.significance import Difference
from alexnet_lit.report.study import Study
from alexnet_lit.report.words import Words
from alexnet_lit.watch.fonts import drawable, fonts

# On white and, second, on dark grey; told apart with any kind of colour vision as far as ten can be (after Okabe and
# Ito 2008). The first is the baseline's.
COLOURS = (
    *(("#4d4d4d", "#c9c9c9"), ("#0072b2", "#4aa8e0"), ("#d55e00", "#f0843c"), ("#009e73", "#2fc79c")),
    *(("#b8559a", "#e08cc4"), ("#c98a00", "#eeb43c"), ("#56a8d8", "#8fd0f5"), ("#6a3d9a", "#a983d6")),
    *(("#8c6d31", "#c7a866"), ("#a80f2c", "#ee6680")),
)
_FEW = 12  # differences that a panel has room for
INK, GREY, RULE = "#262626", "#8c8c8c", "#e6e6e6"


class Effects(NamedTuple):
    """What the last panel shows: names, effects in percentage points, and the paper's where it gives one."""

    title: str
    names: list[str]
    found: list[Difference]
    claims: list[float | None]


class Picture:
    """The panels of a study: each alone as SVG, all together as PNG."""

    def __init__(self, study: Study, text: Words) -> None:
        """`text`: the language of what is written in the panels."""
        self.study = study
        self.text = text
        self.scale = images_a_step(study.experiments)
        self.chosen = _chosen(study)
        self.panels = [panel for tag in self._tags() if (panel := self._curves(tag))]
        effects = _effects(study, text)
        self.rows = len(effects.names)
        self.panels += [lambda axes: _forest(axes, effects, text)] if effects.names else []

    def colour(self, experiment: int | None) -> int | None:
        """The number of its colour, None if it is not drawn."""
        return self.chosen.index(experiment) if experiment in self.chosen else None

    def svgs(self) -> list[str]:
        """A picture a panel, its words as text: the reader's own fonts draw them."""
        with fonts(), rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # they are not drawn here
            heights = [3.4] * len(self.panels)
            if self.rows:
                heights[-1] = max(3.4, 1 + 0.42 * self.rows)
            return [_svg(panel, n, height) for n, (panel, height) in enumerate(zip(self.panels, heights, strict=True))]

    def png(self, title: str) -> bytes:
        """All panels on one sheet, with a legend below."""
        rows = (len(self.panels) + 1) // 2
        with fonts():
            figure = Figure(figsize=(11, 1 + 3.6 * max(1, rows)), dpi=110, facecolor="white", layout="constrained")
            FigureCanvasAgg(figure)
            figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
            for place, panel in enumerate(self.panels):
                panel(figure.add_subplot(rows, min(2, len(self.panels)), place + 1))
            names = [drawable(label_of(self.study.experiments[n], self.text)) for n in self.chosen]
            handles = [Line2D([], [], color=COLOURS[n][0], linewidth=2.4) for n in range(len(names))]
            figure.legend(handles, names, loc="outside lower left", ncols=4, fontsize=9, frameon=False, labelcolor=INK)
            page = io.BytesIO()
            figure.savefig(page, format="png", metadata={"Software": "alexnet_lit report"})
        return page.getvalue()

    def _tags(self) -> list[str]:
        stage = self.study.stage
        return [f"{stage}/acc", f"{stage}/loss", "train/loss"]

    def _curves(self, tag: str) -> Callable[[Axes], None] | None:
        lines = [line_of(self.study.experiments[n], tag, self.scale) for n in self.chosen]
        if not any(line.x.size or line.broken for line in lines):
            return None
        title = self.text(tag if not tag.startswith("test") else f"curve {tag}")
        along = self.text("images" if self.scale else "steps")
        return lambda axes: _panel(axes, lines, title, along)


def notes_of(picture: Picture, text: Words) -> list[str]:
    """What a reader should know about the picture."""
    if not picture.panels:
        return [text("no_curves")]
    drawn, all_ = len(picture.chosen), len(picture.study.experiments)
    return [
        text("about_curves"),
        *([] if picture.scale else [text("in_steps")]),
        *([text("drawn", n=drawn, experiments=all_)] if drawn < all_ else []),
    ]


def _chosen(study: Study) -> list[int]:
    """The experiments that are drawn, in their order behind the baseline: those with the best scores."""

    def rank(n: int) -> tuple[bool, float]:
        scores = study.experiments[n].scores(study.score)
        return study.experiments[n] is not study.baseline, -sum(scores) / len(scores) if scores else 0.0

    best = sorted(range(len(study.experiments)), key=rank)[: len(COLOURS)]
    return [best[0], *sorted(best[1:])]


def _effects(study: Study, text: Words) -> Effects:
    """The paper's ideas where they were switched, else all differences to the baseline."""
    if study.effects:
        names = [text(effect.idea.name) for effect in study.effects]
        claims = [effect.idea.points for effect in study.effects]
        return Effects(text("ideas_panel"), names, [effect.worth for effect in study.effects], claims)
    pairs = zip(study.experiments, study.differences, strict=True)
    told = [(drawable(label_of(each, text)), found) for each, found in pairs if found is not None][:_FEW]
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
    """A dot and its interval for each effect, and a diamond for what the paper says."""
    _dress(axes, effects.title, text("points"))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=GREY, linewidth=1)
    dot, diamond = COLOURS[1][0], COLOURS[2][0]
    for n, (name, found, claim) in enumerate(zip(effects.names, effects.found, effects.claims, strict=True)):
        axes.text(0, n - 0.22, name, transform=axes.get_yaxis_transform(), fontsize=9, color=INK)
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


def _svg(panel: Callable[[Axes], None], number: int, height: float) -> str:
    """For a page that has light and dark colours of these names: --ink, --grey, --rule, --c0 to --c9."""
    figure = Figure(figsize=(5, height), layout="constrained")
    FigureCanvasAgg(figure)
    panel(figure.add_subplot())
    page = io.StringIO()
    with rc_context({"svg.hashsalt": f"panel {number}"}):  # names of parts, which must differ within a page
        figure.savefig(page, format="svg", transparent=True, metadata={"Date": None})
    svg = page.getvalue()[page.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for n, (colour, _) in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{n})")
    for name, colour in (("ink", INK), ("grey", GREY), ("rule", RULE)):
        svg = svg.replace(colour, f"var(--{name})")
    return svg
