"""How long a run took to become so good."""

from typing import Annotated

from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import ConfigDict, Field, validate_call

from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.speed import Speed


class Milestones(Callback):
    """Logs `seconds_to_acc/<level>`, once, at the first validation whose accuracy is at least that level: the seconds
    of fit so far, validation and checkpoints included, those before a resume too.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(self, *, levels: list[Annotated[float, Field(gt=0, le=1)]]) -> None:
        self.levels = levels

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at what has just been measured, and at what was before."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        *before, now = [0.0, *(value for _, value in History.of(trainer).points.get(f"{module.validate}/acc", []))]
        reached = [level for level in self.levels if max(before, default=0.0) < level <= now]
        if reached:
            seconds = Speed.of(trainer).seconds
            for logger in trainer.loggers:
                values = {f"seconds_to_acc/{level:g}": seconds for level in reached}
                logger.log_metrics(values, step=trainer.global_step)
