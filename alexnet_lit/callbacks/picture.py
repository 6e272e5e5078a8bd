"""Draw a run's curves.png when it ends, however it ends, and carry its points over a resume."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from alexnet_lit.callbacks.csv_file import CSV
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.tensorboard import TensorBoard


class Picture(Callback):
    """Keeps a run's history in its checkpoints and draws it to `path`.

    A resumed run repeats the steps since its checkpoint. What TensorBoard and metrics.csv have from the checkpoint's
    step on is void then: some of it may have been measured after the checkpoint. What the checkpoint itself knows of
    that step is logged again.
    """

    def __init__(self, history: History, *, path: Path, title: str) -> None:
        self.history = history
        self.path = path
        self.title = title
        self._resumed_at: int | None = None  # the step of the checkpoint

    def draw(self) -> None:
        """Draw what was measured so far."""
        from alexnet_lit.callbacks.curves import (
            draw,  # matplotlib takes a second to import: only when there is a picture
        )

        draw(self.history.points, self.path, self.title)

    def state_dict(self) -> dict[str, Any]:
        """The points, as plain lists."""
        return {"points": self.history.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curves where the saved run was."""
        self.history.load_state_dict(state_dict["points"])

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring to disk what was logged up to here: a kill takes no point that a resumed run doesn't repeat."""
        for logger in trainer.loggers:
            logger.save()

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note where the run goes on."""
        self._resumed_at = checkpoint["global_step"]

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Let the loggers go on from there too."""
        step, self._resumed_at = self._resumed_at, None
        if step is None:
            return
        here = {tag: dict(curve)[step] for tag, curve in self.history.points.items() if step in dict(curve)}
        for logger in trainer.loggers:
            if isinstance(logger, CSV | TensorBoard):
                logger.rewind(step)
                logger.log_metrics(here, step=step)
