"""What the report holds, in one language and no format: headings, sentences, tables."""

from collections import Counter
from typing import NamedTuple

from alexnet_lit import __version__
from alexnet_lit.report.experiments import shared
from alexnet_lit.report.listing import runs_section, status_of
from alexnet_lit.report.section import Section
from alexnet_lit.report.study import Study
from alexnet_lit.report.tables import experiments_section, ideas_section, reached_section
from alexnet_lit.report.words import Words


class Content(NamedTuple):
    """The whole report. asked: what all runs were asked alike, ready to be typed."""

    title: str
    lead: list[str]
    asked: str
    sections: list[Section]
    foot: list[str]


def content_of(study: Study, name: str, text: Words, curve_notes: list[str]) -> Content:
    """Tell what `study` has found about the runs in the folder `name`.

    curve_notes: what is to be said of the picture.
    """
    statuses = Counter(run.status for run in study.runs)
    counts = [text("status_count", n=n, status=status_of(status, text)) for status, n in statuses.items()]
    lead = [text("count", n=len(study.runs), experiments=len(study.experiments), statuses=text("comma").join(counts))]
    asked = shared(study.runs)
    data = {run.overrides.get("data", "fashion_mnist") for run in study.runs if run.result}
    if data and data <= {"fashion_mnist", "sample"}:
        lead.append(text("classes", names=text("fashion")))
    sections = [
        experiments_section(study, text),
        Section(text("curves"), None, curve_notes, curves=True),
        reached_section(study, text),
        *([ideas_section(study, text)] if study.effects else []),
        runs_section(study, text),
    ]
    typed = " ".join(f"{key}={value}" for key, value in asked.items())
    return Content(f"{text('report')}{text('colon')}{name}", lead, typed, sections, [text("made", version=__version__)])
