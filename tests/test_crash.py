"""Killed again and again and resumed: in the end nothing tells it from the run that was never stopped."""

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_lit.lit import Classifier
from tests.processes import LENET, Runs
from tests.runs import CURVES, equal, saved, scalars, weights

pytestmark = pytest.mark.slow

# Mixing is on too: which images meet must not hang on where a run was stopped. Epochs of ten steps.
MIXED = ("data.augment.mixup=0.4", "data.augment.cutmix=1", "data.train_size=315", "~callbacks.board")
# Each epoch is at a rate of its own, which is chosen as the one before ends.
PLATEAU = ("callbacks=[ema,early_stopping]", "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.9")


@dataclass(frozen=True)
class Crash:
    """Ends the process that calls it, in its `step`-th step: by an alarm after `delay` seconds, or with None by SIGKILL
    when half of the next checkpoint is written. Of several ranks `rank` alone.
    """

    step: int
    delay: float | None
    rank: int

    @property
    def status(self) -> int:
        return -(signal.SIGKILL if self.delay is None else signal.SIGALRM)

    def __call__(self) -> None:
        if int(os.environ.get("RANK", 0)) != self.rank:
            return
        begun = 0
        begin, save = Classifier.on_train_batch_start, torch.save

        def count(module: Classifier, *arguments: Any) -> None:
            nonlocal begun
            begun += 1
            if begun == self.step and self.delay is not None:
                signal.setitimer(signal.ITIMER_REAL, self.delay)
            begin(module, *arguments)

        def half(content: Any, file: Any) -> None:
            save(content, file)
            if begun >= self.step and self.delay is None:
                file.truncate(file.tell() // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # no handler: the kernel ends the process at once
        Classifier.on_train_batch_start = count  # type: ignore[method-assign, assignment] # in this process alone
        torch.save = half  # type: ignore[assignment] # as much of it as is called


@pytest.mark.parametrize(("ranks", "crashes", "typed"), [(1, 3, ()), (2, 2, PLATEAU)], ids=["one device", "two ranks"])
def test_crashes_leave_no_trace(ranks: int, crashes: int, typed: tuple[str, ...], tmp_path: Path) -> None:
    straight, crashed = (Runs(tmp_path / name, ranks=ranks) for name in ("straight", "crashed"))
    arguments = [*LENET, *MIXED, *typed]
    assert straight(*arguments) == [0] * ranks, straight.text
    chance = random.Random(0)

    for number in range(crashes):
        saving = number % 3 == 2
        crash = Crash(
            step=chance.randint(3, 5),  # so that last.ckpt moves on
            delay=None if saving else chance.uniform(1e-4, 0.03),
            rank=0 if saving else number % ranks,  # rank 0 alone writes
        )
        processes = crashed.start(*arguments, before=crash)
        processes[crash.rank].join(100)
        for process in processes:  # all of a run is killed, as good as at once
            process.kill()
        assert crashed.wait(processes)[crash.rank] == crash.status, crashed.text
        arguments = [f"ckpt={crashed.folder}"]
        saved(crashed.folder)  # whole, whatever was being written
    assert crashed(*arguments) == [0] * ranks, crashed.text
    assert equal(weights(crashed.folder), weights(straight.folder))
    assert equal(weights(crashed.folder, "best"), weights(straight.folder, "best"))
    for tag in (*CURVES, "val/acc_best"):
        assert scalars(crashed.folder)[tag] == scalars(straight.folder)[tag], tag
