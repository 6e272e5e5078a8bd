"""`python -m alexnet_lit report`: what the runs of a sweep, or any runs, came to, as a page and as Markdown.

What is made: report.html, one file with everything in it, and report.md with report.png. They are made from result.json
and event files alone. Choices are checked before matplotlib and scipy are imported.
"""

import os
from pathlib import Path

from alexnet_lit.errors import Mistake, check_choice
from alexnet_lit.output import whole
from alexnet_lit.report.words import LANGUAGES, words

NAMES = ("report.html", "report.md", "report.png")
_MARK = b"alexnet_lit report"


def report(folders: list[str], *, lang: str, baseline: str | None, accuracy: float | None, out: Path | None) -> None:
    """Report on all runs in `folders` and below; to `out`, else to the first of them.

    baseline: the experiment that the others are compared with. accuracy: 0..1, what time and images are measured to.
    A report that is there is replaced, as it can be made again; a file that is none of ours is not.

    Raises: Mistake.
    """
    check_choice("--lang", lang, LANGUAGES)
    if accuracy is not None and not 0 < accuracy <= 1:
        raise Mistake(f"--accuracy={accuracy:g}: should be above 0 and at most 1, as 0.8 for 80%")
    from alexnet_lit.report.runs import read_runs

    runs = read_runs(folders)
    place = out or Path(folders[0]).expanduser()
    _check_place(place)

    from alexnet_lit.report.content import content_of
    from alexnet_lit.report.markdown import markdown
    from alexnet_lit.report.page import html
    from alexnet_lit.report.picture import Picture
    from alexnet_lit.report.study import study
    from alexnet_lit.watch.fonts import chinese

    found, text = study(runs, baseline=baseline, accuracy=accuracy), words(lang)
    page = Picture(found, text)
    no_font = lang == "zh" and chinese() is None
    drawn = Picture(found, words("en")) if no_font else page
    names = [Path(folder).expanduser().resolve().name for folder in folders]
    name = ", ".join(names[:3] + ["…"] * (len(names) > 3))
    content = content_of(found, name, text, page.notes(text) + [text("no_font")] * no_font)
    picture = drawn.png(name) if drawn.panels else None
    pages = {
        "report.html": html(content, page, lang, text).encode(),
        "report.md": markdown(content, "report.png" if picture else None, text).encode(),
    }
    for file, bytes_ in {**pages, **({"report.png": picture} if picture else {})}.items():
        with whole(place / file) as part:
            part.write_bytes(bytes_)
        print(place / file)


def _check_place(folder: Path) -> None:
    """Make sure that a report can be written there, before it is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"{folder}: can't be made ({error.strerror}): name another folder with --out") from error
    if not os.access(folder, os.W_OK):
        raise Mistake(f"{folder}: can't be written to: name another folder with --out")
    for file in (folder / name for name in NAMES):
        if file.exists() and (file.is_dir() or _MARK not in file.read_bytes()[:2000]):
            raise Mistake(f"{file}: is there already and is no report of ours: name another folder with --out")
