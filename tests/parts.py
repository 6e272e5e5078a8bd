"""What test_split.py runs in several processes, which have imported everything already: runs, one after the other."""

import json
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from alexnet_lit import watch
from alexnet_lit.config import compose
from alexnet_lit.lit import Classifier
from alexnet_lit.nets.alexnet import DESIGNS
from alexnet_lit.prepare import prepare

Job = tuple[Path, tuple[str, ...]]  # the run's folder and its overrides


# 4096 units would cost most of the time, and nothing else.
SMALL = {name: design._replace(hidden=(64, 48)) for name, design in DESIGNS.items()}


def work(folder: Path, overrides: tuple[str, ...]) -> None:
    """Fit and test in `folder`; points.json there has the curves. AlexNet's hidden linear layers are small ones."""
    folder.mkdir(exist_ok=True)
    watch.quiet_libraries()
    with patch.dict(DESIGNS, SMALL):
        parts = prepare(compose(*overrides), folder)
    parts.trainer.fit(parts.module, datamodule=parts.data, ckpt_path=parts.resume and str(parts.resume))
    parts.trainer.test(parts.module, datamodule=parts.data, verbose=False)
    if parts.trainer.is_global_zero:
        (folder / "points.json").write_text(json.dumps(parts.picture.history.points))


def rank(number: int, ranks: int, port: int, jobs: list[Job], kill: int | None) -> None:
    """Be one of several processes, as torchrun starts them, and do the jobs; the last is killed in step `kill`."""
    place = {"RANK": number, "LOCAL_RANK": number, "GROUP_RANK": 0, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ |= {key: str(value) for key, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    torch.set_num_threads(1)
    if kill is not None and number == ranks - 1:
        _kill(kill)
    for job in jobs:
        work(*job)
    torch.distributed.destroy_process_group()


def _kill(step: int) -> None:
    begin = Classifier.on_train_batch_start

    def count(self: Classifier, *arguments: Any) -> None:
        if self.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        begin(self, *arguments)

    Classifier.on_train_batch_start = count  # type: ignore[method-assign, assignment] # in this process alone


def spread(*jobs: Job, ranks: int, kill: int | None = None) -> list[int | None]:
    """Do the jobs in `ranks` processes; their exit statuses, minus the signal of one that was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash", "tests.parts"])  # there is one for all tests: test_crash.py's too
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=rank, args=(number, ranks, port, list(jobs), kill)) for number in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    return [process.exitcode for process in processes]
