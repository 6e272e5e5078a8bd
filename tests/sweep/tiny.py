"""The smallest job there is, and what its sweep leaves."""

import csv
import json
from pathlib import Path
from typing import Any

from tests.conftest import Outcome

# Two steps of eight images each: milliseconds.
TINY = (
    *("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=8", "data.train_size=16"),
    *("data.val_size=16", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_test_batches=1"),
    "trainer.log_every_n_steps=1",
)
# Without curves, pictures and progress: half as long.
QUIET = (*TINY, "logger=none", "callbacks=none")

# Refused before anything is built, so that a sweep of such jobs takes a moment.
REFUSED = ("label_smoothing=1",)
REASON = "label_smoothing=1: should be a number"


def sweep_of(outcome: Outcome) -> Path:
    """The one sweep that there is."""
    (folder,) = (outcome.logs / "sweeps").iterdir()
    return folder


def jobs_of(sweep: Path) -> list[Path]:
    """The jobs' folders in the order of their numbers."""
    jobs = (path for path in sweep.iterdir() if path.name[0].isdigit())
    return sorted(jobs, key=lambda path: int(path.name.partition("_")[0]))


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def result_of(job: Path) -> dict[str, Any]:
    return dict(json.loads((job / "result.json").read_text()))
