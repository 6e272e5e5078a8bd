"""Killed again and again and resumed: in the end nothing tells it from the run that was never stopped."""

import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import torch

from tests.crash import attempt
from tests.test_run import equal, scalars, weights

pytestmark = pytest.mark.slow

# Four epochs of 20 steps of milliseconds; dropout, mirror and mixing on. The last batch of an epoch is a smaller one.
LENET = (
    *("data=sample", "model=lenet", "model.dropout=0.5", "data.image_size=28", "data.batch_size=32"),
    *("data.train_size=635", "data.val_size=64", "trainer.accelerator=cpu", "trainer.max_epochs=4"),
    *("data.augment.mixup=0.4", "data.augment.cutmix=1"),
    *("trainer.log_every_n_steps=1", "trainer.limit_test_batches=1", "checkpoint.every_steps=2"),
)
CURVES = ("train/loss", "train/acc", "lr", "val/loss", "val/acc", "val/acc_best", "test/loss", "test/acc")
CRASHES = 20


class Runs:
    """Starts attempts from a process that has imported everything already."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.output = logs.with_suffix(".txt")
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.crash", "alexnet_lit.run"])

    def __call__(self, *arguments: str, step: int | None = None, delay: float | None = None) -> int:
        """Exit status; of a killed process, minus the signal."""
        typed = [*arguments, f"paths.logs={self.logs}"]
        process = self.context.Process(target=attempt, args=(typed, str(self.output), step, delay))
        process.start()
        process.join(100)
        assert process.exitcode is not None, self.output.read_text()
        return process.exitcode

    @property
    def folder(self) -> Path:
        (folder,) = (self.logs / "runs").iterdir()
        return folder


def test_twenty_crashes_leave_no_trace(tmp_path: Path) -> None:
    straight, crashed = Runs(tmp_path / "straight"), Runs(tmp_path / "crashed")
    assert straight(*LENET) == 0
    chance = random.Random(0)

    crashes, arguments = 0, list(LENET)
    while crashes < CRASHES:
        saving = crashes % 4 == 3
        step = chance.randint(3, 5)  # so that last.ckpt moves on
        status = crashed(*arguments, step=step, delay=None if saving else chance.uniform(1e-4, 0.03))
        assert status == -(signal.SIGKILL if saving else signal.SIGALRM), crashed.output.read_text()
        crashes += 1
        last = crashed.folder / "checkpoints" / "last.ckpt"
        arguments = [f"ckpt={crashed.folder}"]
        torch.load(last, weights_only=True)  # whole, whatever was being written
    assert crashed(*arguments) == 0, crashed.output.read_text()

    assert equal(weights(crashed.folder), weights(straight.folder))
    assert equal(weights(crashed.folder, "best"), weights(straight.folder, "best"))
    for tag in CURVES:
        assert scalars(crashed.folder)[tag] == scalars(straight.folder)[tag], tag
