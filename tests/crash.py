"""How test_crash.py ends a process at a chosen place."""

import os
import signal
from dataclasses import dataclass
from typing import Any

import torch

from alexnet_lit.lit import Classifier


@dataclass(frozen=True)
class Crash:
    """Ends the process that calls it, in the step that is `step`-th there: by an alarm after `delay` seconds, whatever
    goes on then, or without a delay by SIGKILL when half of the next checkpoint is written. Of several ranks only
    `rank` does that.
    """

    step: int
    delay: float | None
    rank: int = 0

    @property
    def status(self) -> int:
        """How such a process ends."""
        return -(signal.SIGKILL if self.delay is None else signal.SIGALRM)

    def __call__(self) -> None:
        """Lie in wait."""
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
