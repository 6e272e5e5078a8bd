"""The smallest job there is, what its sweep leaves, and trouble for one of the jobs."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.conftest import Outcome

# Two steps of eight images each: milliseconds.
TINY = (
    *("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=8", "data.train_size=16"),
    *("data.val_size=16", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_test_batches=1"),
    "trainer.log_every_n_steps=1",
)


def sweep_of(outcome: Outcome) -> Path:
    """The one sweep that there is."""
    (folder,) = (outcome.logs / "sweeps").iterdir()
    return folder


def jobs_of(sweep: Path) -> list[Path]:
    """The jobs' folders in the order of their numbers."""
    return sorted((path for path in sweep.iterdir() if path.name[0].isdigit()), key=lambda path: number(path))


def number(job: Path) -> int:
    return int(job.name.partition("_")[0])


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def result_of(job: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job / "result.json").read_text())
    return content


class Trouble(Callback):
    """In one job of a sweep something happens before the second step: once, as long as the file `ahead` is there.

    what: interrupt (as Ctrl-C does; `all`: with the process that started this one), error or memory.
    """

    def __init__(self, *, what: str, ahead: str, job: int) -> None:
        self.what = what
        self.ahead = Path(ahead)
        self.job = job

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        here = Path(trainer.default_root_dir)
        if trainer.global_step != 1 or number(here) != self.job or not self.ahead.exists():
            return
        self.ahead.unlink()
        if self.what == "memory":
            raise torch.OutOfMemoryError("no room for\n3 GiB")
        if self.what == "error":
            raise RuntimeError("a bug")
        if self.what == "all":
            os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def trouble(what: str, ahead: Path, job: int) -> str:
    """As an override."""
    return f"+callbacks.trouble={{_target_: tests.sweep.tiny.Trouble, what: {what}, ahead: '{ahead}', job: {job}}}"
