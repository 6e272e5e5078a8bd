"""`python -m alexnet_lit predict`: the classes of pictures in files, in folders or on stdin."""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from alexnet_lit.callbacks.progress import Count
from alexnet_lit.data.picture import KINDS, SUFFIXES
from alexnet_lit.errors import UserError
from alexnet_lit.terminal import plain
from alexnet_lit.tools.predictor import Prediction, Predictor

_DIGITS = 6  # of a probability, for programs


def predict(ckpt: Path, typed: Sequence[str], *, top: int, device: str, as_json: bool, as_csv: bool) -> int:
    """Print the classes of the pictures `typed` as a table, in JSON or in CSV.

    A picture that can't be read is named on stderr and left out. Returns the exit status: 1 if there was one, else 0.
    Raises: UserError before a picture is read.
    """
    if as_json and as_csv:
        raise UserError("--json --csv: one or the other")
    files = [file for name in typed for file in _files(name)]
    predictor = Predictor(ckpt, device=device)
    predictions = []
    with Count("pictures", len(files), silent=False) as count:
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
    """A file or "-" itself; of a folder all pictures below it by name, hidden ones left out.

    Raises: UserError for what is not there, or a folder without pictures.
    """
    path = Path(name).expanduser()
    if name != "-" and not path.exists():
        raise UserError(f"{name}: there is no such file or folder: name pictures, a folder of them, or - for stdin")
    if name == "-" or not path.is_dir():
        return [name if name == "-" else str(path)]
    pictures = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
    shown = [file for file in pictures if not any(part[0] == "." for part in file.relative_to(path).parts)]
    if not shown:
        raise UserError(f"{name}: there is no picture in it ({KINDS}): name another folder, or files one by one")
    return sorted(map(str, shown))


def _print_table(predictions: Sequence[Prediction]) -> None:
    """As wide as it is, so that names stay in one piece."""
    if predictions:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        ranks = [f"{n}." for n in range(1, len(predictions[0].classes) + 1)]
        for title in ("picture", *ranks, "what was done to it"):
            table.add_column(title, no_wrap=True)
        for file, classes, picture in predictions:
            cells = [f"{name} {100 * probability:.1f}%" for name, probability in classes]
            table.add_row(*map(Text, (file, *cells, picture)))
        print(plain(table))


def _print_csv(predictions: Sequence[Prediction]) -> None:
    """file, class_1, probability_1, class_2, ..., picture."""
    rows = []
    for file, classes, picture in predictions:
        row = {"file": file}
        for rank, (name, probability) in enumerate(classes, start=1):
            row |= {f"class_{rank}": name, f"probability_{rank}": f"{probability:.{_DIGITS}f}"}
        rows.append({**row, "picture": picture})
    if rows:
        writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print_json(predictions: Sequence[Prediction]) -> None:
    """A list with an object for each picture."""
    objects = []
    for file, classes, picture in predictions:
        ranked = [{"class": name, "probability": round(value, _DIGITS)} for name, value in classes]
        objects.append({"file": file, "classes": ranked, "picture": picture})
    print(json.dumps(objects, indent=2))
