"""Guesses as a person or a program reads them, on stdout."""

import csv
import sys

from rich import box
from rich.table import Table
from rich.text import Text

from alexnet_lit.terminal import json_text, plain
from alexnet_lit.tools.predict.guess import Guess

_DIGITS = 6


class AsTable:
    """A table at the end, with a row a picture."""

    def __init__(self) -> None:
        self.table = Table(box=box.SIMPLE_HEAD, pad_edge=False)

    def add(self, guess: Guess) -> None:
        """A row."""
        if not self.table.columns:
            for title in ("picture", *(f"{n}." for n in range(1, len(guess.classes) + 1)), "what was done to it"):
                self.table.add_column(title, no_wrap=True)
        cells = [f"{name} {100 * probability:.1f}%" for name, probability in guess.classes]
        self.table.add_row(*(Text(cell) for cell in (guess.file, *cells, guess.picture)))

    def end(self) -> None:
        """Print the table, as wide as it is, so that names stay in one piece."""
        if self.table.row_count:
            print(plain(self.table))


class AsCSV:
    """A line a picture, at once: file, class_1, probability_1, class_2, ..., picture."""

    def __init__(self) -> None:
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        self.begun = False

    def add(self, guess: Guess) -> None:
        """A line."""
        if not self.begun:
            places = [f"{what}_{n}" for n in range(1, len(guess.classes) + 1) for what in ("class", "probability")]
            self.writer.writerow(["file", *places, "picture"])
            self.begun = True
        cells = [cell for name, probability in guess.classes for cell in (name, f"{probability:.{_DIGITS}f}")]
        self.writer.writerow([guess.file, *cells, guess.picture])

    def end(self) -> None:
        """Nothing is left to print."""


class AsJSON:
    """One list at the end, of an object a picture."""

    def __init__(self) -> None:
        self.objects: list[dict[str, object]] = []

    def add(self, guess: Guess) -> None:
        """An object."""
        classes = [{"class": name, "probability": round(value, _DIGITS)} for name, value in guess.classes]
        self.objects.append({"file": guess.file, "classes": classes, "picture": guess.picture})

    def end(self) -> None:
        """Print the list."""
        print(json_text(self.objects))
