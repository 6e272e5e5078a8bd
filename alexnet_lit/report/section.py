"""What a section of the report is made of, in one language and no format."""

from typing import NamedTuple

from alexnet_lit.report.experiments import Experiment
from alexnet_lit.report.words import Words


class Row(NamedTuple):
    """experiment: its place among all, for its colour. strong: the cells that are set in bold. ended: it counts."""

    cells: list[str]
    experiment: int | None = None
    strong: tuple[int, ...] = ()
    ended: bool = True


class Table(NamedTuple):
    """words: so many columns from the left are text, and the last if `remarks`; the others are figures."""

    header: list[str]
    rows: list[Row]
    words: int = 1
    remarks: bool = False


class Section(NamedTuple):
    """curves: the pictures stand here, before the notes."""

    title: str
    table: Table | None
    notes: list[str]
    curves: bool = False


def label_of(experiment: Experiment, text: Words) -> str:
    """What an experiment is called."""
    return experiment.label or text("defaults")
