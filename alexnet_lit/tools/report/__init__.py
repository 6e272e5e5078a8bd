"""`python -m alexnet_lit report`: the runs of a sweep, or any runs, compared on a page and in Markdown.

report.html is one file with everything in it; report.md has report.png beside it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from alexnet_lit import __version__
from alexnet_lit.errors import UserError, whole
from alexnet_lit.tools.report import tables
from alexnet_lit.tools.report.figures import Picture, draw
from alexnet_lit.tools.report.runs import read_runs
from alexnet_lit.tools.report.statistics import Study

_MARK = "alexnet_lit report"  # in each file: tells a report from what somebody wrote
_FOOT = f"Made by alexnet_lit {__version__} from what the runs recorded alone."


def report(folders: list[str], *, baseline: str | None, accuracy: float | None, out: Path | None) -> None:
    """Report on all runs in `folders` and below; to `out`, else to the first of them.

    baseline: the experiment that the others are compared with. accuracy: 0..1, what time and images are measured to.
    An earlier report is replaced; a file that is no report is not.

    Raises: UserError.
    """
    if accuracy is not None and not 0 < accuracy <= 1:
        raise UserError(f"--accuracy={accuracy:g}: should be above 0 and at most 1, as 0.8 for 80%")
    study = Study(read_runs(folders), baseline=baseline, accuracy=accuracy)
    folder = out or Path(folders[0]).expanduser()
    html, markdown, png = files = [folder / f"report.{suffix}" for suffix in ("html", "md", "png")]
    _check_folder(folder, files)
    names = [Path(each).expanduser().resolve().name for each in folders]
    title = ", ".join(names[:3] + ["…"] * (len(names) > 3))
    picture = draw(study, title)
    pages = {
        html: _render("template.html", title, study, picture),
        markdown: _render("template.md", title, study, picture),
    }
    if picture.png:
        pages[png] = picture.png
    else:
        png.unlink(missing_ok=True)  # of an earlier report
    for file, content in pages.items():
        with whole(file) as part:
            part.write_bytes(content)
        print(file)


def _render(template: str, title: str, study: Study, picture: Picture) -> bytes:
    """The page; names are shown as they are, whatever is in them."""
    environment = Environment(
        autoescape=template.endswith(".html"), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["markdown"] = _markdown
    statuses = study.runs.sort_index()["status"].value_counts(sort=False)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    text = Path(__file__).with_name(template).read_text(encoding="utf-8")
    page = environment.from_string(text).render(
        mark=_MARK,
        title=title,
        counts=f"Runs: {len(study.runs)} ({counts}). Experiments: {len(study.labels)}.",
        overrides=" ".join(f"{key}={value}" for key, value in study.common_overrides.items()),
        sections=[
            tables.experiments_section(study),
            tables.Section("Learning curves", picture.notes),
            tables.reached_section(study),
            *([tables.ideas_section(study)] if study.effects else []),
            tables.runs_section(study),
        ],
        text_columns=tables.TEXT_COLUMNS,
        bold_columns=tables.BOLD_COLUMNS,
        picture=picture,
        foot=_FOOT,
    )
    return page.encode()


def _markdown(text: str) -> str:
    """The text with Markdown's own characters escaped, in one line."""
    text = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _check_folder(folder: Path, files: Sequence[Path]) -> None:
    """Make the folder. Raises: UserError if that fails, or if a report would replace another file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: can't be made ({error.strerror}): name another folder with --out") from error
    for file in files:
        if file.exists() and (file.is_dir() or _MARK.encode() not in file.read_bytes()[:2000]):
            raise UserError(f"{file}: is there already and is no report of ours: name another folder with --out")
