"""`python -m alexnet_lit predict`: the classes of pictures in files, in folders or on stdin."""

import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError, check_choice
from alexnet_lit.terminal import json_text

if TYPE_CHECKING:
    from alexnet_lit.tools.predictor import Prediction

_DIGITS = 6  # of a probability, for programs


def predict(
    ckpt: str, typed: Sequence[str], *, top: int, background: str, device: str, as_json: bool, as_csv: bool
) -> int:
    """Print the classes of the pictures `typed` as a table, in JSON or in CSV.

    A picture that can't be read is named on stderr and left out. Returns the exit status: 1 if there was one, else 0.
    Raises: UserError; for names and options before torch is imported.
    """
    check_choice("--background", background, ("auto", "white", "black"))
    if as_json and as_csv:
        raise UserError("--json --csv: one or the other")
    checkpoint = checkpoint_file(ckpt)
    for name in typed:
        if name != "-" and not Path(name).expanduser().exists():
            raise UserError(f"{name}: there is no such file or folder: name pictures, a folder of them, or - for stdin")

    from alexnet_lit.callbacks.progress import Count
    from alexnet_lit.tools.predictor import Prediction, Predictor

    files = [file for name in typed for file in _files(name)]
    predictor = Predictor(checkpoint, background=background, device=device)
    predictions = []
    with Count("pictures", len(files)) as count:
        for result in predictor.predict(files, top=top):
            count.add(1)
            if isinstance(result, Prediction):
                predictions.append(result)
            else:
                count.say(f"{result}: left out")
    show = _print_json if as_json else _print_csv if as_csv else _print_table
    show(predictions)
    return 1 if len(predictions) < len(files) else 0


def _files(name: str) -> list[str]:
    """A file or "-" itself; of a folder all pictures below it by name, hidden ones left out, links followed.

    Raises: UserError for a folder without pictures, or one that can't be read.
    """
    from alexnet_lit.data.picture import KINDS, SUFFIXES

    path = Path(name).expanduser()
    if name == "-" or not path.is_dir():
        return [name if name == "-" else str(path)]

    def refuse(error: OSError) -> None:
        raise UserError(f"{name}: {error.filename} can't be read ({error.strerror}): make it readable") from error

    found: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(path, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # links lead in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [each for each in folders if each[0] != "."]
        found += [str(Path(folder, each)) for each in files if each[0] != "." and each.lower().endswith(SUFFIXES)]
    if not found:
        raise UserError(f"{name}: there is no picture in it ({KINDS}): name another folder, or files one by one")
    return sorted(found)


def _print_table(predictions: "Sequence[Prediction]") -> None:
    """As wide as it is, so that names stay in one piece."""
    from alexnet_lit.terminal import plain

    if predictions:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        ranks = [f"{n}." for n in range(1, len(predictions[0].classes) + 1)]
        for title in ("picture", *ranks, "what was done to it"):
            table.add_column(title, no_wrap=True)
        for file, classes, picture in predictions:
            cells = [f"{name} {100 * probability:.1f}%" for name, probability in classes]
            table.add_row(*map(Text, (file, *cells, picture)))
        print(plain(table))


def _print_csv(predictions: "Sequence[Prediction]") -> None:
    """file, class_1, probability_1, class_2, ..., picture."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for n, (file, classes, picture) in enumerate(predictions):
        if n == 0:
            ranks = range(1, len(classes) + 1)
            writer.writerow(
                ["file", *(f"{key}_{rank}" for rank in ranks for key in ("class", "probability")), "picture"]
            )
        cells = (cell for name, value in classes for cell in (name, f"{value:.{_DIGITS}f}"))
        writer.writerow([file, *cells, picture])


def _print_json(predictions: "Sequence[Prediction]") -> None:
    """A list with an object for each picture."""
    objects = []
    for file, classes, picture in predictions:
        ranked = [{"class": name, "probability": round(value, _DIGITS)} for name, value in classes]
        objects.append({"file": file, "classes": ranked, "picture": picture})
    print(json_text(objects))
