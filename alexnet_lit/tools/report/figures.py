"""The report's picture: learning curves with bands over seeds, and effects with their intervals."""

import io
import math
import re
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from alexnet_lit.callbacks.figures import short, style
from alexnet_lit.tools.report.statistics import Difference, Study

# Told apart with any colour vision as far as ten can be (after Okabe and Ito 2008). The first is the baseline's.
_COLOURS = (
    *("#4d4d4d", "#0072b2", "#d55e00", "#009e73", "#b8559a"),
    *("#c98a00", "#56a8d8", "#6a3d9a", "#8c6d31", "#a80f2c"),
)
_TITLES = {"val/acc": "Validation accuracy", "val/loss": "Validation loss", "train/loss": "Training loss"}
_TITLES |= {"test/acc": "Test accuracy", "test/loss": "Test loss"}
_MOST_EFFECTS = 24  # maximum number drawn

Curves = tuple[pd.DataFrame, list[pd.Series]]  # an experiment's mean and band, and its unfinished runs
Effect = tuple[str, Difference, float]  # a name, what was found, the paper's points


def draw(study: Study) -> tuple[str, list[str]]:
    """Learning curves of the baseline and of the best experiments, and effects, as SVG; what a reader should know.

    The SVG is empty if there is nothing to draw. Its text is drawn in the reader's own fonts.
    """
    ranked = study.spread[study.metric]["mean"].drop(study.baseline).sort_values(ascending=False, kind="stable")
    chosen = [study.baseline, *sorted(ranked.index[: len(_COLOURS) - 1])]
    by_images = bool(study.runs.loc[study.runs["curves"].map(bool), "images_per_step"].notna().all())
    stage = "val" if any("val/acc" in curves for curves in study.runs["curves"]) else "test"
    panels: dict[str, list[Curves]] = {}  # accuracy, loss and training loss, those that were recorded
    for tag in (f"{stage}/acc", f"{stage}/loss", "train/loss"):
        curves = [learning_curve(study.runs[study.runs["experiment"] == n], tag, by_images) for n in chosen]
        if any(len(band) or incomplete for band, incomplete in curves):
            panels[tag] = curves
    effects = _effects(study)
    if not panels and not effects:
        return "", ["There is nothing to draw: no event file has a point."]
    line = "Line: mean over the runs of an experiment that completed; band: from the lowest to the highest of them."
    notes = [f"{line} Dashed: single runs that did not complete, up to the cross."]
    if not by_images:
        notes.append("Drawn against steps, as not every run tells how many images a step has.")
    if len(chosen) < len(study.labels):
        notes.append(f"Drawn are the baseline and the best, {len(chosen)} of {len(study.labels)}.")
    if len(effects) > _MOST_EFFECTS:
        notes.append(f"Drawn are the first {_MOST_EFFECTS} of {len(effects)} differences; the table has all.")
    names = [short(study.labels[n], 60) for n in chosen]
    title = "The paper's ideas" if study.effects else "Difference to the baseline"
    file, xlabel = io.StringIO(), "training images" if by_images else "steps"
    with style():
        figure = _figure(panels, xlabel, effects[:_MOST_EFFECTS], title, names)
        figure.savefig(file, format="svg", metadata={"Date": None})
    page = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    page = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", page)
    return page[page.index("<svg") :], notes


def _effects(study: Study) -> list[Effect]:
    """What the paper's ideas are worth if there are any among the experiments, else all differences to the baseline."""
    if study.effects:
        return [(short(study.name_of(each), 60), each.worth, each.idea.points) for each in study.effects]
    pairs = zip(study.labels, study.differences, strict=True)
    return [(short(label, 60), each, math.nan) for label, each in pairs if not math.isnan(each.value)]


def _figure(
    panels: Mapping[str, list[Curves]], xlabel: str, effects: Sequence[Effect], title: str, names: Sequence[str]
) -> Figure:
    """The panels on one sheet, the effects as the last, with the names of the experiments below."""
    count = len(panels) + bool(effects)
    columns = min(2, count)
    heights = [3.4] * math.ceil(count / columns)
    heights[-1] = max(3.4, 1 + 0.42 * len(effects))
    figure = Figure(figsize=(11, 1 + sum(heights)), layout="constrained")
    places = [*figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).flat]
    for axes, (tag, curves) in zip(places, panels.items(), strict=False):
        axes.set(title=_TITLES[tag], xlabel=xlabel)
        _draw_curves(axes, curves)
    if effects:
        places[len(panels)].set(title=title, xlabel="percentage points")
        _draw_effects(places[len(panels)], effects)
    for axes in places[count:]:
        axes.remove()
    handles = [Line2D([], [], color=each, linewidth=2.4, label=n) for n, each in zip(names, _COLOURS, strict=False)]
    figure.legend(handles=handles, loc="outside lower left", ncols=max(1, min(5, 140 // (8 + max(map(len, names))))))
    return figure


def learning_curve(runs: pd.DataFrame, tag: str, by_images: bool) -> Curves:
    """The curves of an experiment's runs by training image or step: mean, low and high over those that count, and each
    that did not complete. The mean ends where the first of the runs ends, so that it doesn't jump as a run leaves it.
    """
    completed: list[pd.Series] = []
    incomplete: list[pd.Series] = []
    for run in runs.itertuples():
        if tag in run.curves and (run.counts or run.status != "completed"):
            curve = run.curves[tag]
            curve = curve.set_axis(curve.index * (run.images_per_step if by_images else 1))
            (completed if run.counts else incomplete).append(curve)
    if not completed:
        return pd.DataFrame(), incomplete
    values = pd.concat(completed, axis=1).sort_index().interpolate("index", limit_area="inside").dropna()
    band = pd.DataFrame({"mean": values.mean(axis=1), "low": values.min(axis=1), "high": values.max(axis=1)})
    return band, incomplete


def _draw_curves(axes: Axes, curves: Sequence[Curves]) -> None:
    axes.grid()
    for (band, incomplete), colour in reversed([*zip(curves, _COLOURS, strict=False)]):  # the baseline on top
        if len(band):
            marker = "o" if len(band) < 25 else None
            axes.fill_between(band.index, band["low"], band["high"], color=colour, alpha=0.16, linewidth=0)
            axes.plot(band.index, band["mean"], color=colour, linewidth=1.7, marker=marker, markersize=3.2)
        for curve in incomplete:
            axes.plot(curve.index, curve, color=colour, linewidth=1.1, linestyle=(0, (3, 2)))
            axes.plot(curve.index[-1], curve.iloc[-1], color=colour, marker="x", markersize=6, linestyle="none")
    axes.set_xlim(left=0)
    bands = pd.concat([band for band, _ in curves])
    if len(bands):  # a run that diverged has no say in the limits
        low, high = bands["low"].min(), bands["high"].max()
        margin = 0.05 * (high - low) or 0.05
        axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _draw_effects(axes: Axes, effects: Sequence[Effect]) -> None:
    """A dot and its interval for each, and a diamond for the paper's points."""
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color="#8c8c8c", linewidth=1)
    dot, diamond = _COLOURS[1], _COLOURS[2]
    for n, (name, found, claim) in enumerate(effects):
        axes.text(0, n - 0.22, name, transform=axes.get_yaxis_transform())  # at the left edge
        axes.plot([found.low, found.high], [n, n], color=dot, linewidth=2, solid_capstyle="butt")
        axes.plot(found.value, n, "o", color=dot, markersize=6)
        axes.plot(claim, n, "D", color=diamond, markersize=6, markerfacecolor="none", markeredgewidth=1.5)
    claimed = any(not math.isnan(claim) for _, _, claim in effects)
    axes.set(yticks=[], ylim=(len(effects) - 0.5 + claimed, -0.9))  # below, room for a legend
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if claimed:
        here = Line2D([], [], color=dot, marker="o", linewidth=2, label="here, with 95% interval")
        paper = Line2D([], [], color=diamond, marker="D", markerfacecolor="none", linestyle="none")
        paper.set_label("in the paper, on ImageNet")
        axes.legend(handles=[here, paper], loc="lower left", ncols=2)
