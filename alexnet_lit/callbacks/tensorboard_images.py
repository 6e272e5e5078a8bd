"""The callback that draws TensorBoard's pictures from what a validation or test predicts anyway."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from matplotlib.figure import Figure
from matplotlib.image import imsave
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassPrecisionRecallCurve
from torchvision.utils import make_grid

from alexnet_lit.callbacks import pictures
from alexnet_lit.callbacks.figures import confusion
from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.callbacks.metrics import Throughput
from alexnet_lit.data import rank_and_world_size

_SIDE = 80  # px of an image in a gallery
_SPRITE = 28  # px of an image in the Projector
_CURVES = 30  # classes up to which there are PR curves


class TensorBoardImages(Callback):
    """Draws what TensorBoard shows beside the curves, if that is among the loggers.

    It sees the logits of each validation and test. Pictures are left out while those drawn so far took more than
    `share` of the time of the fit; those of the last validation are then drawn at the end of the fit. Rank 0 draws:
    counts are of all ranks, images of its own share. Where several devices hold one net (towers, hybrid), its inside is
    drawn at the end of the fit, when it is whole again, and there is no projector; nor is there one of a compiled net.

    every: validations from one set of pictures to the next. images: how many in `batch` and `mistakes`. pr_curves: at
    the test, of up to 30 classes. projector: so many images' last hidden layer at the test; 0 for none.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        every: Annotated[int, Field(ge=1)],
        share: Annotated[float, Field(gt=0, le=1)],
        images: Annotated[int, Field(ge=1, le=64)],
        batch: bool,
        confusion: bool,
        classes: bool,
        mistakes: bool,
        kernels: bool,
        activations: bool,
        histograms: bool,
        pr_curves: bool,
        projector: Annotated[int, Field(ge=0, le=10_000)],
    ) -> None:
        self.every = every
        self.share = share
        self.images = images
        self.batch = batch
        self.confusion = confusion
        self.classes = classes
        self.mistakes = mistakes
        self.kernels = kernels
        self.activations = activations
        self.histograms = histograms
        self.pr_curves = pr_curves
        self.projector = projector
        self._began = self._spent = 0.0  # monotonic time of the fit's beginning; seconds that pictures took
        self._validations = 0
        self._batch_due = batch
        self._predictions: Predictions | None = None  # of the validation or test that is going on
        self._waiting: tuple[str, int, Tensor, Mistakes | None] | None = None  # stage, step and counts to be drawn
        self._image: Tensor | None = None  # (1, C, S, S), whose activations are shown
        self._inside_at = -1  # step whose kernels and activations were drawn last
        self._embedding: Embedding | None = None
        self._gradients: dict[str, Tensor] = {}  # of the last step, which Lightning frees before a validation

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Start the clock that pictures may take a share of."""
        self._began, self._spent = time.monotonic(), 0.0

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Draw the first batch, and the first one after each set of pictures, while the training clock stands still."""
        if self.histograms and _holds_whole_net(trainer):
            named = module.net.named_parameters()
            self._gradients = {name: each.grad.clone() for name, each in named if each.grad is not None}
        if self._image is None:
            self._image = batch.images[:1].clone()
        if self._batch_due and (writer := _writer(trainer)):
            self._batch_due = False
            Throughput.of(trainer).pause(trainer)
            images = pictures.visible(batch.images[: self.images], module.pixels, _SIDE)
            captions = [(module.classes[label],) for label in batch.labels[: self.images].tolist()]
            title = f"a batch of training, step {trainer.global_step:,}"
            _add(writer, "train/batch", pictures.gallery(images, captions, title), trainer.global_step)

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Begin to count."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and _logger(trainer) is not None:
            self._predictions = Predictions(module, mistakes=self.images if self.mistakes else 0)

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Count the logits."""
        if self._predictions is not None:
            self._predictions.update(outputs, batch.labels, batch.images)
            if batch_idx == 0:
                self._image = batch.images[:1].clone()

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Draw, if a set is due and there is time."""
        predictions, self._predictions = self._predictions, None
        if predictions is None:
            return
        self._validations += 1
        if self._validations % self.every:
            return
        self._set_waiting(trainer, module.validate, predictions)
        began = time.monotonic()
        if (writer := _writer(trainer)) and self._spent <= self.share * (began - self._began):
            self._draw_predictions(writer, module)
            if _holds_whole_net(trainer):
                self._draw_inside(writer, module, trainer.global_step)
            self._batch_due = self.batch
            self._spent += time.monotonic() - began

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Draw what is still to be drawn, now that the net is whole in any case."""
        if writer := _writer(trainer):
            self._draw_predictions(writer, module)
            self._draw_inside(writer, module, trainer.global_step)

    def on_test_start(self, trainer: Trainer, module: Any) -> None:
        """Begin to count."""
        if _logger(trainer) is None:
            return
        curves = self.pr_curves and len(module.classes) <= _CURVES
        self._predictions = Predictions(module, mistakes=self.images if self.mistakes else 0, curves=curves)
        linear = [layer for layer in module.net.modules() if isinstance(layer, nn.Linear)]
        compiled = module.net._compiled_call_impl is not None
        if self.projector and linear and not compiled and trainer.is_global_zero and _holds_whole_net(trainer):
            self._embedding = Embedding(linear[-1], self.projector)

    def on_test_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Count the logits."""
        if self._predictions is not None:
            self._predictions.update(outputs, batch.labels, batch.images)
        if self._embedding is not None and self._embedding.left > 0:
            images = pictures.visible(batch.images[: self._embedding.left], module.pixels, _SPRITE)
            self._embedding.add(images, batch.labels.cpu())

    def on_test_end(self, trainer: Trainer, module: Any) -> None:
        """Draw."""
        predictions, self._predictions = self._predictions, None
        embedding, self._embedding = self._embedding, None
        if predictions is None:
            return
        self._set_waiting(trainer, "test", predictions)
        curves = None if predictions.curves is None else _over_ranks(trainer, predictions.curves.confmat)
        if writer := _writer(trainer):
            self._draw_predictions(writer, module)
            if curves is not None:
                _add_pr_curves(writer, curves, module.classes, trainer.global_step)
            if embedding is not None:
                embedding.write(Path(writer.log_dir), module.classes)

    def _set_waiting(self, trainer: Trainer, stage: str, predictions: "Predictions") -> None:
        counts = _over_ranks(trainer, predictions.confusion.confmat)
        self._waiting = stage, trainer.global_step, counts, predictions.mistakes

    def _draw_predictions(self, writer: SummaryWriter, module: Any) -> None:
        if self._waiting is None:
            return
        (stage, step, counts, mistakes), self._waiting = self._waiting, None
        title = f"{stage}, step {step:,}"
        if self.confusion:
            _add(writer, f"{stage}/confusion", confusion(counts.tolist(), module.classes, title, dpi=72), step)
        if self.classes:
            bars = pictures.class_accuracy(counts, module.classes, f"accuracy of each class, {title}")
            _add(writer, f"{stage}/classes", bars, step)
        if mistakes is not None and (wrong := mistakes.certainty >= 0).any():
            rows = zip(*(part[wrong].tolist() for part in mistakes[1:]), strict=True)
            names = module.classes
            captions = [(names[label], f"{names[answer][:11]} {100 * certain:.0f}%") for label, answer, certain in rows]
            title = f"most certain mistakes, {title}: true class, answer and its probability"
            images = pictures.visible(mistakes.images[wrong], module.pixels, _SIDE)
            _add(writer, f"{stage}/mistakes", pictures.gallery(images, captions, title), step)

    def _draw_inside(self, writer: SummaryWriter, module: Any, step: int) -> None:
        if self._inside_at == step:
            return
        self._inside_at = step
        if self.kernels and (sheet := pictures.kernels(module.net)) is not None:
            writer.add_image("net/kernels", sheet, step)
        if self.activations and self._image is not None:
            _add(writer, "net/activations", pictures.activations(module.net, self._image[0]), step)
        if self.histograms:
            pictures.write_histograms(writer, module.net, self._gradients, step)


class Mistakes(NamedTuple):
    """Images with wrong predictions, the most certain first: images (k, C, S, S), the others (k,)."""

    images: Tensor
    labels: Tensor
    predicted: Tensor
    certainty: Tensor  # probability of the prediction; -1 where there are fewer mistakes than wanted


class Predictions:
    """Counts the predictions of one pass over images, on the device of the module.

    mistakes: how many of the worst are kept. curves: count for PR curves too. `confusion.confmat`: (classes, classes),
    true classes by row; `curves.confmat`: (thresholds, classes, 2, 2), true by predicted.
    """

    def __init__(self, module: Any, *, mistakes: int, curves: bool = False) -> None:
        classes = len(module.classes)
        self.confusion = MulticlassConfusionMatrix(classes, validate_args=False).to(module.device)
        self.curves: MulticlassPrecisionRecallCurve | None = None
        if curves:
            curve = MulticlassPrecisionRecallCurve(classes, thresholds=127, validate_args=False)
            self.curves = curve.to(module.device)
        self._most = mistakes
        self.mistakes: Mistakes | None = None

    def update(self, logits: Tensor, labels: Tensor, images: Tensor) -> None:
        """Add a batch: logits (B, classes), labels (B,), images (B, C, S, S)."""
        probabilities = logits.detach().float().softmax(1)
        certainty, predicted = probabilities.max(1)
        self.confusion.update(predicted, labels)
        if self.curves is not None:
            self.curves.update(probabilities, labels)
        if self._most:
            batch = self._worst(Mistakes(images, labels, predicted, certainty.where(predicted != labels, -1.0)))
            both = [batch] if self.mistakes is None else [self.mistakes, batch]
            self.mistakes = self._worst(Mistakes(*map(torch.cat, zip(*both, strict=True))))

    def _worst(self, mistakes: Mistakes) -> Mistakes:
        index = mistakes.certainty.topk(min(self._most, len(mistakes.certainty))).indices
        return Mistakes(*(part.index_select(0, index) for part in mistakes))


class Embedding:
    """Keeps the inputs of a net's last linear layer, of so many images, and writes them for the Projector.

    Of several views of an image the first counts.
    """

    def __init__(self, layer: nn.Linear, count: int) -> None:
        self.left = count
        self._handle = layer.register_forward_pre_hook(self._keep)
        self._units: list[Tensor] = []
        self._images: list[Tensor] = []
        self._labels: list[Tensor] = []

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.left > 0 and len(self._units) == len(self._labels):
            self._units.append(inputs[0].detach()[: self.left].flatten(1).float())

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Add what belongs to the batch that the net has just seen: images uint8 (B, s, s, 3), labels (B,)."""
        self._images.append(images[: self.left])
        self._labels.append(labels[: self.left])
        self.left -= len(self._labels[-1])

    def write(self, run: Path, classes: Sequence[str]) -> None:
        """Write the files where TensorBoard looks for them. SummaryWriter.add_embedding would leave folders named after
        steps in the run folder.
        """
        self._handle.remove()
        folder = run / "plugins/org_tensorflow_tensorboard_projector"
        folder.mkdir(parents=True, exist_ok=True)
        points = pictures.principal_axes(torch.cat(self._units).cpu()).tolist()
        labels = [" ".join(classes[label].split()) for label in torch.cat(self._labels).tolist()]
        images = torch.cat(self._images).permute(0, 3, 1, 2)
        side = math.ceil(len(images) ** 0.5)  # the page takes the sheet for a square
        blanks = images.new_full((side**2 - len(images), *images.shape[1:]), 255)
        sheet = make_grid(torch.cat([images, blanks]), nrow=side, padding=0)
        rows = ["\t".join(f"{value:.4g}" for value in point) for point in points]
        (folder / "points.tsv").write_text("\n".join([*rows, ""]), encoding="utf-8")
        (folder / "classes.tsv").write_text("\n".join([*labels, ""]), encoding="utf-8")
        imsave(folder / "images.png", sheet.permute(1, 2, 0).numpy())
        (folder / "projector_config.pbtxt").write_text(
            'embeddings { tensor_name: "last hidden layer, test images" tensor_path: "points.tsv" '
            'metadata_path: "classes.tsv" sprite { image_path: "images.png" '
            f"single_image_dim: {images.shape[3]} single_image_dim: {images.shape[2]} }} }}\n",
            encoding="utf-8",
        )


def _add(writer: SummaryWriter, tag: str, figure: Figure, step: int) -> None:
    """As SummaryWriter.add_figure, which imports pyplot, and draws with the fonts of the moment."""
    writer.add_image(tag, pictures.rendered(figure), step, dataformats="HWC")


def _add_pr_curves(writer: SummaryWriter, counts: Tensor, classes: Sequence[str], step: int) -> None:
    """counts: (thresholds, classes, 2, 2), true by predicted, each 0 or 1."""
    tn, fp, fn, tp = counts.double().flatten(2).permute(2, 1, 0)
    precision, recall = tp / (tp + fp).clamp(min=1), tp / (tp + fn).clamp(min=1)
    add_curve: Any = writer.add_pr_curve_raw
    for n, name in enumerate(classes):
        curve = (values[n].numpy() for values in (tp, fp, tn, fn, precision, recall))
        add_curve(f"pr_curves/{name}", *curve, global_step=step)


def _logger(trainer: Trainer) -> TensorBoard | None:
    """The same on all ranks, of which the first alone writes."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)


def _writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's, on the first rank."""
    logger = _logger(trainer)
    return logger.experiment if logger is not None and trainer.is_global_zero else None


def _holds_whole_net(trainer: Trainer) -> bool:
    """False where several ranks hold one net."""
    return rank_and_world_size(trainer)[1] == trainer.world_size


def _over_ranks(trainer: Trainer, counts: Tensor) -> Tensor:
    """The counts of all ranks together, on the CPU; of those that hold one net together, once."""
    if trainer.world_size > 1:
        counts = counts.to(trainer.strategy.root_device).contiguous()
        torch.distributed.all_reduce(counts)
        counts = counts // (trainer.world_size // rank_and_world_size(trainer)[1])
    return counts.cpu()
