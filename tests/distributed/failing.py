"""A callback that ends a rank in the middle of training, as a user's own might."""

import os
import signal
import sys
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Failing(Callback):
    """how: raise, exit, _exit or kill. rank: the one that does. At the third step."""

    def __init__(self, how: str, rank: int = 1) -> None:
        self.how = how
        self.rank = rank

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Do it."""
        if (trainer.global_rank, trainer.global_step) != (self.rank, 2):
            return
        if self.how == "raise":
            raise ZeroDivisionError("boom")
        if self.how == "exit":
            sys.exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(3)


def failing(how: str, rank: int = 1) -> tuple[str, ...]:
    """What to type for it."""
    node = {"_target_": f"{__name__}.Failing", "how": how, "rank": rank}
    return tuple(f"+callbacks.failing.{key}={value}" for key, value in node.items())
