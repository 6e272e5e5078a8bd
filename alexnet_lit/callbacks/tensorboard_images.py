"""The callback that draws TensorBoard's figures from the predictions of a validation or test."""

import time
from typing import Annotated, Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.classification import MulticlassConfusionMatrix

from alexnet_lit.callbacks import figures
from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.callbacks.metrics import Throughput
from alexnet_lit.data.loader import data_rank_and_size


class TensorBoardImages(Callback):
    """Draws what TensorBoard shows beside the curves, if that is among the loggers.

    It sees the logits of each validation and test. Pictures are left out while those drawn so far took more than
    `share` of the time of the fit; those of the last validation are then drawn at the end of the fit. Rank 0 draws:
    counts are of all ranks, images of its own share. Where several devices hold one net (towers, hybrid), its inside is
    drawn at the end of the fit, when it is whole again. images: how many are shown of a batch and of the mistakes.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self, *, share: Annotated[float, Field(gt=0, le=1)], images: Annotated[int, Field(ge=1, le=64)]
    ) -> None:
        self.share, self.images = share, images
        self._began = self._spent = 0.0  # monotonic time of the fit's beginning; seconds that pictures took
        self._batch_due = True
        self._predictions: Predictions | None = None  # of the current validation or test
        self._waiting: tuple[str, int, Tensor, Misclassified] | None = None  # stage, step and counts to be drawn
        self._image: Tensor | None = None  # (1, C, S, S), whose activations are shown
        self._inside_at = -1  # step whose kernels and activations were drawn last

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        self._began, self._spent = time.monotonic(), 0.0

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Draw the first batch, and the first one after each set of pictures, while the training clock stands still."""
        if self._image is None:
            self._image = batch.images[:1].clone()
        if self._batch_due and (writer := _writer(trainer)):
            self._batch_due = False
            Throughput.of(trainer).pause(trainer)
            captions = [[module.classes[label]] for label in batch.labels[: self.images].tolist()]
            title = f"a batch of training, step {trainer.global_step:,}"
            with figures.style():
                picture = figures.gallery(batch.images[: self.images], module.pixels, captions, title)
                writer.add_figure("train/batch", picture, trainer.global_step)

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Begin to count, on all ranks."""
        if not trainer.sanity_checking and any(isinstance(logger, TensorBoard) for logger in trainer.loggers):
            self._predictions, self._image = Predictions(module, mistakes=self.images), None

    on_test_start = on_validation_start  # type: ignore[assignment] # Lightning gives all by position

    def on_validation_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        if self._predictions is not None:
            self._predictions.update(outputs, batch.labels, batch.images)
            if self._image is None:
                self._image = batch.images[:1].clone()

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment] # Lightning gives all by position

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        if trainer.sanity_checking:
            return
        self._end_counting(trainer, module.validate)
        began = time.monotonic()
        if (writer := _writer(trainer)) and self._spent <= self.share * (began - self._began):
            self._draw_predictions(writer, module)
            if data_rank_and_size(trainer)[1] == trainer.world_size:  # else several ranks hold one net
                self._draw_inside(writer, module, trainer.global_step)
            self._batch_due = True
            self._spent += time.monotonic() - began

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Draw what is still to be drawn, now that the net is whole in any case."""
        if writer := _writer(trainer):
            self._draw_predictions(writer, module)
            self._draw_inside(writer, module, trainer.global_step)

    def on_test_end(self, trainer: Trainer, module: Any) -> None:
        self._end_counting(trainer, "test")
        if writer := _writer(trainer):
            self._draw_predictions(writer, module)

    def _end_counting(self, trainer: Trainer, stage: str) -> None:
        if self._predictions is not None:
            predictions, self._predictions = self._predictions, None
            together = trainer.world_size // data_rank_and_size(trainer)[1]  # ranks that hold one net, and count alike
            counts = predictions.confusion.compute().cpu() // together
            assert predictions.mistakes is not None
            self._waiting = stage, trainer.global_step, counts, predictions.mistakes

    @figures.style()
    def _draw_predictions(self, writer: SummaryWriter, module: Any) -> None:
        if self._waiting is None:
            return
        (stage, step, counts, mistakes), self._waiting = self._waiting, None
        title, names = f"{stage}, step {step:,}", module.classes
        writer.add_figure(f"{stage}/confusion", figures.confusion(counts.tolist(), names, title, dpi=72), step)
        bars = figures.class_accuracy(counts, names, f"accuracy of each class, {title}")
        writer.add_figure(f"{stage}/classes", bars, step)
        if (wrong := mistakes.certainty >= 0).any():
            rows = zip(*(part[wrong].tolist() for part in mistakes[1:]), strict=True)
            captions = [[names[label], f"{names[answer][:11]} {100 * certain:.0f}%"] for label, answer, certain in rows]
            title = f"most certain mistakes, {title}: true class, predicted class, probability"
            picture = figures.gallery(mistakes.images[wrong], module.pixels, captions, title)
            writer.add_figure(f"{stage}/mistakes", picture, step)

    @figures.style()
    def _draw_inside(self, writer: SummaryWriter, module: Any, step: int) -> None:
        if self._inside_at == step:
            return
        self._inside_at = step
        if (sheet := figures.kernels(module.net)) is not None:
            writer.add_image("net/kernels", sheet, step)
        if self._image is not None:
            writer.add_figure("net/activations", figures.activations(module.net, self._image[0]), step)


class Misclassified(NamedTuple):
    """Images with wrong predictions, the most certain first: images (k, C, S, S), the others (k,)."""

    images: Tensor
    labels: Tensor
    predicted: Tensor
    certainty: Tensor  # probability of the prediction; -1 where there are fewer mistakes than wanted


class Predictions:
    """Counts the predictions of one pass over images, on the device of the module.

    mistakes: how many of the worst are kept. `confusion` computes (classes, classes) over ranks, true classes by row.
    """

    def __init__(self, module: Any, *, mistakes: int) -> None:
        self.confusion = MulticlassConfusionMatrix(len(module.classes), validate_args=False).to(module.device)
        self._most = mistakes
        self.mistakes: Misclassified | None = None

    def update(self, logits: Tensor, labels: Tensor, images: Tensor) -> None:
        """Add a batch: logits (B, classes), labels (B,), images (B, C, S, S)."""
        certainty, predicted = logits.detach().float().softmax(1).max(1)
        self.confusion.update(predicted, labels)
        batch = Misclassified(images, labels, predicted, certainty.where(predicted != labels, -1.0))
        both = [batch] if self.mistakes is None else [self.mistakes, batch]
        parts = Misclassified(*map(torch.cat, zip(*both, strict=True)))
        worst = parts.certainty.topk(min(self._most, len(parts.certainty))).indices
        self.mistakes = Misclassified(*(part[worst] for part in parts))


def _writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's, on the first rank."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
    return boards[0].experiment if boards and trainer.is_global_zero else None
