"""The Classifier: what a step, an evaluation and a prediction are, whatever the net."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from alexnet_lit.data import Batch, Pixels
from alexnet_lit.errors import Diverged

LENGTHS = ("run_steps", "run_epochs")  # what an argument of a schedule may be, beside plain values
Stage = Literal["train", "val", "test"]


class Score(Metric):
    """Mean cross entropy and micro accuracy over all images since the last reset, on all ranks together."""

    full_state_update = False
    loss_sum: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor, loss_sum: Tensor) -> None:
        """Take in a batch: logits (B, classes), labels (B,), and the sum of its losses. Waits for no device."""
        self.loss_sum += loss_sum.detach()
        self.correct += (logits.detach().argmax(1) == labels).sum()
        self.count += len(labels)

    def compute(self) -> dict[str, float]:
        """Loss in nats and accuracy in 0..1; nan where no image was seen."""
        sums = torch.stack([self.loss_sum, self.correct, self.count])
        loss_sum, correct, count = sums.tolist()  # one wait for the device, not three
        return {"loss": loss_sum / count, "acc": correct / count} if count else {"loss": math.nan, "acc": math.nan}


class Scores(nn.ModuleDict):
    """A score for each stage, told apart from ModuleDict's own names, of which `train` is one."""

    def __init__(self) -> None:
        super().__init__({f"{stage}_score": Score() for stage in get_args(Stage)})

    def __getitem__(self, stage: str) -> Score:
        score = super().__getitem__(f"{stage}_score")
        assert isinstance(score, Score)
        return score


class Schedule:
    """A learning-rate schedule as the config has it: which class, with what, and when it steps.

    lengths: arguments of the factory that stand for the length of the run, which only the run knows: each "run_steps"
    or "run_epochs". interval: "step" or "epoch". monitor: the score that a plateau is looked for in, or None.
    """

    def __init__(
        self, factory: Callable[..., LRScheduler], *, interval: str, monitor: str | None, lengths: Mapping[str, str]
    ) -> None:
        self.factory = factory
        self.interval = interval
        self.monitor = monitor
        self.lengths = lengths

    def build(self, optimizer: Optimizer, *, run_steps: int, run_epochs: int) -> LRScheduler:
        """The scheduler of a run that is so long."""
        known = dict(zip(LENGTHS, (run_steps, run_epochs), strict=True))
        return self.factory(optimizer, **{key: known[value] for key, value in self.lengths.items()})


class Classifier(LightningModule):
    """A net with its loss, scores, optimizer and schedule.

    net: images (B, C, S, S) -> logits (B, classes). pixels: small uint8 images -> what the net sees.
    optimizer: parameters -> Optimizer. config: the run's whole config in plain values; it goes into each checkpoint, so
    that a checkpoint alone is enough to load the net again.
    """

    def __init__(
        self,
        *,
        net: nn.Module,
        pixels: Pixels,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule,
        validate: Literal["val", "test"],
        seed: int,
        log_every: int,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net = net
        self.pixels = pixels
        self.optimizer = optimizer
        self.schedule = schedule
        self.validate: Stage = validate
        self.seed = seed
        self.save_hyperparameters({"config": config}, logger=False)
        # Scores of whole epochs, and of the steps since the last point of the training curve.
        self.scores = Scores()
        self.window = Score()
        self._rate = 0.0
        self.log_every = log_every
        self.best = -math.inf
        self.published: dict[str, float] = {}  # the latest scores by name

    def forward(self, images: Tensor) -> Tensor:
        """Images as the net sees them (B, C, S, S) -> logits (B, classes)."""
        logits: Tensor = self.net(images)
        return logits

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities of each class for uint8 images (B, H, W) or (B, 1, H, W): (B, classes) float32, rows sum to 1.

        Runs in eval mode, whatever mode the module is in. Raises: ValueError for another dtype or shape.
        """
        if images.dtype != torch.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[1] == 1)):
            raise ValueError(
                f"predict takes uint8 images (B, H, W) or (B, 1, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                logits: Tensor = self(self.pixels(images.to(self.device)))
                return logits.float().softmax(1)
        finally:
            self.train(training)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a function of (seed, step, rank), so that a resumed run draws what it would have drawn."""
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) * 1_009 + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of the global batch: ranks are averaged, so each weighs its sum by its share."""
        loss_sum = self._score("train", batch)
        return loss_sum * (self.trainer.world_size / batch.total)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of what is looked at after each epoch."""
        self._score(self.validate, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of test images."""
        self._score("test", batch)

    def _score(self, stage: Stage, batch: Batch) -> Tensor:
        logits = self(batch.images)  # (B, classes)
        loss_sum = F.cross_entropy(logits, batch.labels, reduction="sum")
        self.scores[stage].update(logits, batch.labels, loss_sum)
        if stage == "train":
            self.window.update(logits, batch.labels, loss_sum)
        return loss_sum

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Note the rate of this step: when it ends, the schedule has moved on."""
        self._rate = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Every `log_every` steps, and with the last of an epoch: a point of the training curve and the rate.

        Raises: Diverged if the loss is no longer a number.
        """
        step = self.global_step  # steps finished, this one included
        if step % self.log_every and not self.trainer.is_last_batch:
            return
        point = self.window.compute()
        self.window.reset()
        if not math.isfinite(point["loss"]):
            raise Diverged(f"the training loss is {point['loss']} at step {step}: lower optimizer.lr")
        values = {"train/loss": point["loss"], "train/acc": point["acc"], "lr": self._rate}
        for logger in self.trainer.loggers:
            logger.log_metrics(values, step=step)

    def on_train_epoch_end(self) -> None:
        """Training scores of the whole epoch, for whoever monitors them."""
        self._publish("train")

    def on_validation_epoch_end(self) -> None:
        """Scores over all images of the stage, and the best accuracy so far."""
        self._publish(self.validate)

    def on_test_epoch_end(self) -> None:
        """Scores over all test images."""
        self._publish("test")

    def _publish(self, stage: Stage) -> None:
        """Make a stage's scores known to monitors, loggers and `published`, at the same step as the training curve."""
        score = self.scores[stage]
        values = {f"{stage}/{name}": value for name, value in score.compute().items()}
        score.reset()
        if stage == "val":
            self.best = max(self.best, values["val/acc"])
            values["val/acc_best"] = self.best
        self.published.update(values)
        # The ranks agree already; sync_dist says so to Lightning.
        self.log_dict(values, logger=False, sync_dist=True)
        if stage != "train":  # the training curve has its own points; these are means over the epoch
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and schedule of the config, as long as the run."""
        optimizer = self.optimizer(self.net.parameters())
        steps, epochs = self.trainer.estimated_stepping_batches, self.trainer.max_epochs
        scheduler = self.schedule.build(optimizer, run_steps=int(steps), run_epochs=epochs or 1)
        config: Any = {"scheduler": scheduler, "interval": self.schedule.interval}
        if self.schedule.monitor is not None:
            config["monitor"] = self.schedule.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best validation accuracy over a resume."""
        checkpoint["val/acc_best"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the best validation accuracy up again."""
        self.best = checkpoint["val/acc_best"]
