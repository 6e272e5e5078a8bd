"""What was measured, as tables for a person and in JSON for a program."""

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from alexnet_lit.terminal import json_text, plain
from alexnet_lit.tools.evaluate.measure import Measured
from alexnet_lit.tools.evaluate.scores import BINS, wilson

SPLITS = {"test": "test", "val": "validation"}


def as_json(measured: Measured, checkpoint: Path, split: str, picture: Path) -> str:
    """One object; the keys that result.json has too have its names, `test/acc` or `val/acc`, and its values."""
    scores = measured.scores
    return json_text(
        {
            "checkpoint": str(checkpoint),
            "split": split,
            "images": measured.images,
            "tta": measured.tta,
            "device": measured.device,
            "precision": measured.precision,
            f"{split}/acc": measured.acc,
            "acc_interval": wilson(measured.acc, measured.images),
            f"{split}/loss": measured.loss,
            "calibration_error": scores.calibration_error,
            "classes": {name: row._asdict() for name, row in scores.classes.items()},
            "confusion": scores.confusion.tolist(),
            "picture": str(picture),
        }
    )


def as_text(measured: Measured, checkpoint: Path, split: str, picture: Path) -> str:
    """Two tables: the whole, and class by class."""
    low, high = wilson(measured.acc, measured.images)
    views = {"none": "", "mirror": ", mean of 2 views each", "ten_crop": ", mean of 10 views each"}[measured.tta]
    whole = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in (
        ("checkpoint", str(checkpoint)),
        ("images", f"{measured.images:,} {SPLITS[split]} images{views}, from {measured.origin}"),
        ("device", f"{measured.device}, precision {measured.precision}"),
        ("accuracy", f"{measured.acc:.4f}, with 95% confidence {low:.4f} to {high:.4f}"),
        ("loss", f"{measured.loss:.4f}"),
        ("calibration error", f"{measured.scores.calibration_error:.4f}, expected, of {BINS} bins"),
        ("confusion matrix", str(picture)),
    ):
        whole.add_row(name, Text(value))
    return f"{plain(whole)}\n{plain(_by_class(measured))}"


def _by_class(measured: Measured) -> Table:
    classes = measured.scores.classes
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("class", footer="mean of classes")
    for title in ("precision", "recall", "f1"):
        mean = sum(getattr(row, title) for row in classes.values()) / len(classes)
        table.add_column(title, footer=f"{mean:.3f}", justify="right")
    table.add_column("images", footer=f"{measured.images:,}", justify="right")
    for name, row in classes.items():
        table.add_row(Text(name), *(f"{value:.3f}" for value in row[:3]), f"{row.images:,}")
    return table
