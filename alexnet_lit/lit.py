"""Classifier, the LightningModule for any net: steps, metrics, optimizer and schedule, predictions."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from alexnet_lit.data import Batch, Preprocess
from alexnet_lit.data.augment import TestTimeAugmentation
from alexnet_lit.data.loader import data_rank_and_size
from alexnet_lit.optim import Schedule, clip

Stage = Literal["train", "val", "test"]
_AT_ONCE = 256  # images that `predict` passes through the net at a time


class Score(Metric):
    """Mean cross entropy and micro accuracy over all images since the last reset, on all ranks together."""

    full_state_update = False
    loss_sum: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, zero in (("loss_sum", 0.0), ("correct", 0), ("count", 0)):
            self.add_state(name, torch.tensor(zero), dist_reduce_fx="sum")

    def update(self, loss_sum: Tensor | float, correct: Tensor | int, count: int) -> None:
        """Add images: the sum of their losses, the number correct and their number. Does not synchronise the device."""
        self.loss_sum += loss_sum
        self.correct += correct
        self.count += count

    def _apply(self, fn: Callable[[Tensor], Tensor], *rest: Any) -> nn.Module:
        """Move the sums; their types stay, with trainer.precision=bf16-true too."""
        return super()._apply(lambda tensor: tensor.to(fn(torch.empty_like(tensor)).device), *rest)

    def sums(self) -> tuple[float, int, int]:
        """The arguments of `update`, summed over all images and ranks."""
        with self.sync_context():
            return self._values()

    def compute(self) -> dict[str, float]:
        """Loss in nats and accuracy in 0..1; nan where no image was seen."""
        loss_sum, correct, count = self._values()
        return {"loss": loss_sum / count, "acc": correct / count} if count else {"loss": math.nan, "acc": math.nan}

    def _values(self) -> tuple[float, int, int]:
        loss_sum, correct, count = torch.stack([self.loss_sum, self.correct, self.count]).tolist()  # one wait
        return loss_sum, int(correct), int(count)


class Classifier(LightningModule):
    """A net with its loss, metrics, optimizer and schedule.

    net: images (B, C, S, S) -> logits (B, classes). pixels, views: preprocessing, test-time augmentation. classes: in
    the order of the logits. channels: of the images. optimizer: parameters -> Optimizer. label_smoothing: 0..1, in
    training. validate: split that a fit evaluates. seed: of dropout. config: plain values, saved for `load`.
    """

    _ddp_params_and_buffers_to_ignore = ("pixels.matrix", "pixels.mean", "pixels.std")  # the same on all ranks

    def __init__(
        self,
        *,
        net: nn.Module,
        pixels: Preprocess,
        views: TestTimeAugmentation,
        classes: tuple[str, ...],
        channels: int,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule,
        label_smoothing: float,
        validate: Literal["val", "test"],
        seed: int,
        config: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net, self.pixels, self.views = net, pixels, views
        self.classes, self.channels, self.seed = classes, channels, seed
        self.optimizer, self.schedule, self.label_smoothing = optimizer, schedule, label_smoothing
        self.validate: Stage = validate
        self.save_hyperparameters({"config": config, "classes": list(classes)}, logger=False)
        self.scores: dict[Stage, Score] = {"train": Score(), "val": Score(), "test": Score()}  # of whole epochs
        self._scores = nn.ModuleList(self.scores.values())  # registered, to move to the device with the module
        self.window = Score()  # over the steps since the last point of the training curve
        self._learning_rate = 0.0  # of the last step
        self._gradient_norm: Tensor | None = None  # of the last step, on the device
        self.best = -math.inf
        self._monitored: float | None = None  # the schedule's score, until it has stepped with it
        self.published: dict[str, float] = {}  # the latest metrics by name
        self.tested = (-1, 0)  # step and number of images of the last test

    @classmethod
    def load_from_checkpoint(  # type: ignore[override] # no hyper-parameters: the checkpoint's config builds the module
        cls, checkpoint_path: Any, map_location: Any = None, *, strict: bool = True, weights_only: bool = True
    ) -> Self:
        """As `alexnet_lit.load`, which is strict and loads weights only."""
        from alexnet_lit.prepare import load

        return load(checkpoint_path, map_location)  # type: ignore[return-value] # Self is Classifier here

    def forward(self, images: Tensor) -> Tensor:
        """Images as the net sees them (B, C, S, S) -> logits (B, classes)."""
        return self.net(images)

    def predict(self, images: Tensor) -> Tensor:
        """Probabilities of each class for uint8 images (B, C, H, W), grey ones (B, H, W) too: (B, classes) float32.

        Rows sum to 1. Runs in eval mode, whatever mode the module is in. Raises: ValueError for another dtype or shape.
        """
        images = images if isinstance(images, Tensor) else torch.tensor(images)  # a NumPy array may be read-only
        grey = self.channels == 1 and images.ndim == 3
        if images.dtype != torch.uint8 or not (grey or (images.ndim == 4 and images.shape[1] == self.channels)):
            shapes = "(B, H, W) or (B, 1, H, W)" if self.channels == 1 else f"(B, {self.channels}, H, W)"
            raise ValueError(f"predict takes uint8 images {shapes}, not {images.dtype} {tuple(images.shape)}")
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                logits = [self(self.pixels(part.to(self.device))).float() for part in images.split(_AT_ONCE)]
                return torch.cat(logits).softmax(1)
        finally:
            self.train(training)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by (seed, step, batch, rank), so that a resumed run draws the same."""
        number = 0
        for part in (self.seed, self.global_step, batch_idx, data_rank_and_size(self.trainer)[0]):
            number = (number * 0x9E3779B97F4A7C15 + part + 1) % 2**63
        torch.default_generator.manual_seed(number)
        if self.device.type != "cpu":  # torch.manual_seed seeds all kinds of devices: 0.2 ms a step
            torch.get_device_module(self.device).manual_seed(number)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean loss of the global batch: DDP averages over ranks, so each divides its sum by the mean share."""
        loss_sum = self._score("train", batch, self(batch.images))
        return loss_sum * (data_rank_and_size(self.trainer)[1] / batch.total)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Score a batch of validation images, or of test images with data.validate=test; returns its logits."""
        logits: Tensor = self(batch.images)
        self._score(self.validate, batch, logits)
        return logits

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Score a batch of test images by the mean probability over the views of each; returns its logits."""
        logits = self.views.logits(self, batch.images)
        self._score("test", batch, logits)
        return logits

    def loss_sum(self, stage: Stage, batch: Batch, logits: Tensor) -> Tensor:
        """Sum of the cross entropies of logits (B, classes); of a mixed image, of both classes by their shares.

        In training a share of each label is spread over all classes (Szegedy et al. 2016, section 7).
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # a sum of half precision is rounded
        smoothing = self.label_smoothing if stage == "train" else 0.0
        entropy = partial(F.cross_entropy, logits, label_smoothing=smoothing)
        if batch.mixed_in is None:
            return entropy(batch.labels, reduction="sum")
        others, shares = batch.mixed_in
        first, second = (entropy(labels, reduction="none") for labels in (batch.labels, others))
        return first.lerp(second, shares.to(first.dtype)).sum()

    def _score(self, stage: Stage, batch: Batch, logits: Tensor) -> Tensor:
        """Update the scores; returns the sum of losses. Of a mixed image, the class with the larger share is right."""
        loss_sum = self.loss_sum(stage, batch, logits)
        correct = (logits.detach().argmax(1) == batch.labels).sum()
        for score in (self.scores[stage], *([self.window] if stage == "train" else [])):
            score.update(loss_sum.detach(), correct, len(batch.labels))
        return loss_sum

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Note the learning rate of this step: at its end the schedule has moved on."""
        self._learning_rate = float(optimizer.param_groups[0]["lr"])

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip, and note the norm of all gradients before that."""
        self._gradient_norm = clip(self, optimizer, gradient_clip_val, gradient_clip_algorithm)

    def take_point(self) -> dict[str, float]:
        """Scores since the last call, learning rate and gradient norm of the last step. Waits for the device."""
        scores = self.window.compute()
        self.window.reset()
        norm = {} if self._gradient_norm is None else {"grad_norm": float(self._gradient_norm)}
        return {**{f"train/{name}": value for name, value in scores.items()}, "lr": self._learning_rate, **norm}

    def on_train_epoch_end(self) -> None:
        """Publish the epoch's training scores, and step a schedule that monitors a score.

        Lightning would step it after the epoch was saved, and leave it out in a resumed run's first epoch.
        """
        self._publish("train")
        if self.trainer.is_last_batch and self._monitored is not None:
            plateau: Any = self.lr_schedulers()
            plateau.step(self._monitored)
            self._monitored = None

    def on_validation_epoch_end(self) -> None:
        self._publish(self.validate)

    def on_test_epoch_end(self) -> None:
        self._publish("test")

    def _publish(self, stage: Stage) -> None:
        """Give a stage's scores to monitors, loggers and `published`, at the same step as the training curve."""
        score = self.scores[stage]
        if not score.update_called:
            return  # an epoch that was complete before the run was resumed
        values = {f"{stage}/{name}": value for name, value in score.compute().items()}
        if stage == "test":
            self.tested = (self.global_step, score.sums()[2])
        score.reset()
        if self.trainer.sanity_checking:
            return
        if stage == "val":
            self.best = max(self.best, values["val/acc"])
            values["val/acc_best"] = self.best
        self.published.update(values)
        self._monitored = values.get(self.schedule.monitor or "", self._monitored)
        # The ranks have the same values already; without sync_dist Lightning would warn.
        self.log_dict(values, logger=False, sync_dist=True)
        if stage != "train":  # the training curve has its own points; these are means over the epoch
            for logger in self.trainer.loggers:
                logger.log_metrics(values, step=self.global_step)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.net.parameters())
        factory, interval = self.schedule.factory, self.schedule.interval
        scheduler: Any = {"scheduler": factory(optimizer), "interval": interval, "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a schedule; one that monitors a score steps in `on_train_epoch_end`."""
        if self.schedule.monitor is None:
            super().lr_scheduler_step(scheduler, metric)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the sums of the epoch so far, so that a resumed run scores the whole epoch, and what was published."""
        checkpoint |= {"val/acc_best": self.best, "monitored": self._monitored}
        checkpoint |= {"published": self.published.copy(), "tested": self.tested}
        checkpoint["sums"] = {"train": self.scores["train"].sums(), "window": self.window.sums()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best = checkpoint["val/acc_best"]
        self._monitored = checkpoint.get("monitored")
        self.published.update(checkpoint.get("published", {}))  # older checkpoints lack it
        self.tested = checkpoint.get("tested", self.tested)
        loss_sum, correct, count = checkpoint["sums"]["train"]
        if count:  # the run may have ended within this epoch: then nothing publishes it any more
            self.published |= {"train/loss": loss_sum / count, "train/acc": correct / count}
        for name, score in (("train", self.scores["train"]), ("window", self.window)):
            sums = checkpoint["sums"][name]
            if sums[2]:  # over all ranks; every rank has to update, as all take part in the next synchronisation
                score.update(*(sums if data_rank_and_size(self.trainer)[0] == 0 else (0.0, 0, 0)))
