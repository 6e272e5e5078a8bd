"""A callback that makes trouble, put into a run by its config, so that it reaches processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from alexnet_lit.data import Batch
from alexnet_lit.errors import UserError
from alexnet_lit.terminal import STOP_SIGNALS


class Trouble(Callback):
    """Something happens as step `at`, counted from 0, begins on a rank; if there is a file `ahead`, once: it goes then.

    what: error, full (a disk), memory, poison (NaN in the images), exit, _exit, kill, sleep; interrupt (as Ctrl-C does;
    `all`: with what started this process, once a file `killed` is gone), hangup; USR1 or USR2 (a signal by Slurm); wait
    (for any).
    job: of a sweep, by its number; null for any run.
    """

    def __init__(self, *, what: str, ahead: str | None, job: int | None, rank: int, at: int) -> None:
        self.what = what
        self.ahead = None if ahead is None else Path(ahead)
        self.job = None if job is None else str(job)
        self.place = (rank, at)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, *_: Any) -> None:
        job = Path(trainer.default_root_dir).name.partition("_")[0]
        if (trainer.global_rank, trainer.global_step) != self.place or self.job not in (None, job):
            return
        own = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        if self.ahead is not None:
            if not self.ahead.exists():
                return
            self.ahead.unlink()
        match self.what:
            case "error":
                raise RuntimeError("a bug")
            case "full":
                raise UserError("last.ckpt: cannot be written (No space left on device): make room there")
            case "memory":
                raise torch.OutOfMemoryError("no room for\n3 GiB")
            case "poison":
                batch.images.fill_(torch.nan)
            case "exit":
                sys.exit(3)
            case "_exit":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "sleep":
                time.sleep(1000)
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
                if self.what == "all" and self.ahead is not None:
                    while self.ahead.with_name("killed").exists():
                        time.sleep(0.05)
                    os.kill(os.getppid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)


def _await(own: dict[signal.Signals, Any]) -> None:
    """Wait for a signal: once it has come, another handler stands in the place of the run's own."""
    deadline = time.monotonic() + 100
    while all(signal.getsignal(number) == own[number] for number in own) and time.monotonic() < deadline:
        time.sleep(0.05)


def trouble(what: str, ahead: Path | None = None, *, job: int | None = None, rank: int = 0, at: int = 1) -> str:
    """As an override; the file `ahead` is made."""
    if ahead is not None:
        ahead.touch()
    values = {"what": what, "ahead": ahead and f"'{ahead}'", "job": job, "rank": rank, "at": at}
    arguments = ", ".join(f"{key}: {'null' if value is None else value}" for key, value in values.items())
    return f"+callbacks.trouble_{what}_{job}={{_target_: tests.trouble.Trouble, {arguments}}}"
