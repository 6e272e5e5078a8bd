"""`python -m alexnet_lit report`: the runs of a sweep, or any runs, compared on a page: one file, all inside."""

from pathlib import Path

import pandas as pd
from jinja2 import Environment

from alexnet_lit import __version__
from alexnet_lit.errors import UserError, whole
from alexnet_lit.tools.report import tables
from alexnet_lit.tools.report.figures import draw
from alexnet_lit.tools.report.runs import read_runs
from alexnet_lit.tools.report.statistics import Study

_MARK = "alexnet_lit report"  # in the file: tells a report from what somebody wrote
_FOOT = f"Made by alexnet_lit {__version__} from what the runs recorded alone."


def report(folders: list[str], *, baseline: str | None, out: Path | None) -> None:
    """Report on all runs in `folders` and below in report.html; in `out`, else in the first of them.

    baseline: the experiment that the others are compared with. An earlier report is replaced; a file that is no report
    is not.

    Raises: UserError.
    """
    study = Study(read_runs(folders), baseline=baseline)
    folder = out or Path(folders[0]).expanduser()
    file = folder / "report.html"
    _check_place(file)
    names = [Path(each).expanduser().resolve().name for each in folders]
    page = _render(study, ", ".join(names[:3] + ["…"] * (len(names) > 3)))
    with whole(file) as part:
        part.write_text(page, encoding="utf-8")
    print(file)


def _render(study: Study, title: str) -> str:
    """The page; names are shown as they are, whatever is in them."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["html"] = _html
    svg, notes = draw(study)
    statuses = study.runs.sort_index()["status"].value_counts(sort=False)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    template = Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        mark=_MARK,
        title=title,
        counts=f"Runs: {len(study.runs)} ({counts}). Experiments: {len(study.labels)}.",
        overrides=" ".join(f"{key}={value}" for key, value in study.common_overrides.items()),
        sections=[
            tables.experiments_section(study),
            tables.Section("Learning curves", notes),
            *([tables.ideas_section(study)] if study.effects else []),
            tables.runs_section(study),
        ],
        svg=svg,
        foot=_FOOT,
    )


def _html(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):
        return str(table.to_html(index=False, border=0, justify="unset"))


def _check_place(file: Path) -> None:
    """Make the folder. Raises: UserError if that fails, or if a report would replace another file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent}: can't be made ({error.strerror}): name another folder with --out") from error
    if file.exists() and (file.is_dir() or _MARK.encode() not in file.read_bytes()[:2000]):
        raise UserError(f"{file}: is there already and is no report of ours: name another folder with --out")
