"""The report's picture: learning curves with bands, and effects with their intervals."""

import io
import re
import warnings

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alexnet_lit.report.lines import images_a_step
from alexnet_lit.report.panels import COLOURS, GREY, INK, RULE, Panel, panels_of, short
from alexnet_lit.report.section import label_of
from alexnet_lit.report.study import Study
from alexnet_lit.report.words import Words
from alexnet_lit.watch.fonts import drawable, fonts


class Picture:
    """The panels of a study: each alone as SVG, all together as PNG. `text`: the language of what is written there."""

    def __init__(self, study: Study, text: Words) -> None:
        self.study = study
        self.text = text
        self.chosen = _chosen(study)
        self.panels = panels_of(study, self.chosen, text)

    def colour(self, experiment: int | None) -> int | None:
        """The number of its colour, None if it is not drawn."""
        return self.chosen.index(experiment) if experiment in self.chosen else None

    def svgs(self) -> list[str]:
        """A picture a panel, its words as text: the reader's own fonts draw them."""
        with fonts(), rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # they are not drawn here
            return [_svg(panel, n) for n, panel in enumerate(self.panels)]

    def png(self, title: str) -> bytes:
        """All panels on one sheet, with a legend below."""
        columns = min(2, len(self.panels))
        rows = [self.panels[n : n + columns] for n in range(0, len(self.panels), columns)]
        heights = [max(panel.height for panel in row) for row in rows]
        with fonts():
            figure = Figure(figsize=(11, 1 + sum(heights)), dpi=110, facecolor="white", layout="constrained")
            FigureCanvasAgg(figure)
            figure.suptitle(drawable(title), x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
            grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
            for place, panel in enumerate(self.panels):
                panel.draw(figure.add_subplot(grid[place // columns, place % columns]))
            self._legend(figure)
            page = io.BytesIO()
            figure.savefig(page, format="png", metadata={"Software": "alexnet_lit report"})
        return page.getvalue()

    def notes(self, text: Words) -> list[str]:
        """What a reader should know about it."""
        if not self.panels:
            return [text("no_curves")]
        drawn, all_ = len(self.chosen), len(self.study.experiments)
        notes = [text("about_curves")]
        if images_a_step(self.study.experiments) is None:
            notes.append(text("in_steps"))
        return [*notes, *([text("drawn", n=drawn, experiments=all_)] if drawn < all_ else [])]

    def _legend(self, figure: Figure) -> None:
        names = [short(label_of(self.study.experiments[n], self.text)) for n in self.chosen]
        handles = [Line2D([], [], color=COLOURS[n][0], linewidth=2.4) for n in range(len(names))]
        columns = max(1, min(5, 140 // (8 + max(map(len, names)))))
        legend = figure.legend(handles, names, loc="outside lower left", ncols=columns, fontsize=9, labelcolor=INK)
        legend.set_frame_on(False)


def _chosen(study: Study) -> list[int]:
    """The experiments that are drawn, in their order behind the baseline: those with the best scores."""

    def rank(n: int) -> tuple[bool, float]:
        scores = study.experiments[n].scores(study.score)
        return study.experiments[n] is not study.baseline, -sum(scores) / len(scores) if scores else 0.0

    best = sorted(range(len(study.experiments)), key=rank)[: len(COLOURS)]
    return [best[0], *sorted(best[1:])]


def _svg(panel: Panel, number: int) -> str:
    """For a page that has light and dark colours of these names: --ink, --grey, --rule, --c0 to --c9."""
    figure = Figure(figsize=(5, panel.height), layout="constrained")
    FigureCanvasAgg(figure)
    panel.draw(figure.add_subplot())
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
