"""What test_crash.py runs in processes of their own: one attempt at a run, killed at a chosen place."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from alexnet_lit import app
from alexnet_lit.lit import Classifier
from tests.conftest import REPOSITORY


def attempt(arguments: list[str], output: str, step: int | None, delay: float | None) -> None:
    """`python train.py <arguments>`, its text into the file `output`; ends the process with the exit status.

    In the step that is `step`-th in this process it is killed: by an alarm after `delay` seconds, whatever goes on
    then, or without a delay by SIGKILL when half of the next checkpoint is written.
    """
    with Path(output).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    if step is not None:
        _kill(step, delay)
    sys.argv = [str(REPOSITORY / "train.py"), *arguments]
    sys.exit(app.main())


def _kill(step: int, delay: float | None) -> None:
    begun = 0
    begin, save = Classifier.on_train_batch_start, torch.save

    def count(self: Classifier, *arguments: Any) -> None:
        nonlocal begun
        begun += 1
        if begun == step and delay is not None:
            signal.setitimer(signal.ITIMER_REAL, delay)
        begin(self, *arguments)

    def half(content: Any, file: Any) -> None:
        save(content, file)
        if begun >= step and delay is None:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # no handler: the kernel ends the process at once
    Classifier.on_train_batch_start = count  # type: ignore[method-assign, assignment] # in this process alone
    torch.save = half  # type: ignore[assignment] # as much of it as is called
