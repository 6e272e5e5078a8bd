"""The smallest job there is, what its sweep leaves, and trouble for one of the jobs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from alexnet_lit.callbacks.checkpointing import STOP_SIGNALS
from tests.conftest import REPOSITORY, Outcome

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
    return sorted((path for path in sweep.iterdir() if path.name[0].isdigit()), key=lambda path: number(path))


def number(job: Path) -> int:
    return int(job.name.partition("_")[0])


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def result_of(job: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job / "result.json").read_text())
    return content


def started(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """`python train.py ...` in a terminal of its own, as it were, whose output is read later."""
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        start_new_session=True,
    )


class Trouble(Callback):
    """In one job of a sweep something happens after step `at`: once, as long as the file `ahead` is there.

    what: interrupt (as Ctrl-C does; `all`: with the process that started this one, once a file `killed` is gone),
    hangup, error, memory, kill; USR1 or USR2 (a signal by Slurm) or wait (for any). job: null for any run.
    """

    def __init__(self, *, what: str, ahead: str, job: int | None, at: int) -> None:
        self.what = what
        self.ahead = Path(ahead)
        self.job = job
        self.at = at

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        here = Path(trainer.default_root_dir)
        mine = trainer.global_rank == 0 and (self.job is None or number(here) == self.job)
        if trainer.global_step != self.at or not mine or not self.ahead.exists():
            return
        own = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self.ahead.unlink()
        match self.what:
            case "memory":
                raise torch.OutOfMemoryError("no room for\n3 GiB")
            case "error":
                raise RuntimeError("a bug")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "USR1" | "USR2" as name:
                # Slurm signals all processes of a job, this command too.
                subprocess.run(["scancel", f"--signal={name}", os.environ["SLURM_JOB_ID"]], check=False)
                _await(own)
            case "wait":
                _await(own)
            case "hangup":  # twice, as a shell hands it on and the terminal sends it too
                os.kill(os.getpid(), signal.SIGHUP)
                os.kill(os.getpid(), signal.SIGHUP)
            case _:
                if self.what == "all":
                    while self.ahead.with_name("killed").exists():
                        time.sleep(0.05)
                    os.kill(os.getppid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)


def _await(own: dict[signal.Signals, Any]) -> None:
    """Wait for a signal: once it has come, another handler stands in the place of the run's own."""
    deadline = time.monotonic() + 100
    while all(signal.getsignal(number) == own[number] for number in own) and time.monotonic() < deadline:
        time.sleep(0.05)


def trouble(what: str, ahead: Path, job: int | None = None, *, at: int = 1) -> str:
    """As an override."""
    number = "null" if job is None else job
    arguments = f"what: {what}, ahead: '{ahead}', job: {number}, at: {at}"
    return f"+callbacks.trouble_{number}={{_target_: tests.sweep.tiny.Trouble, {arguments}}}"
