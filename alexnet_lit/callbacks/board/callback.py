"""When pictures of a run are drawn, and from what."""

from pathlib import Path
from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn

from alexnet_lit.callbacks.board.allowance import Allowance
from alexnet_lit.callbacks.board.drawing import Answers, Pictures
from alexnet_lit.callbacks.board.picture import shown
from alexnet_lit.callbacks.board.precision import MOST, STEPS, curves
from alexnet_lit.callbacks.board.projector import SIDE, Embedding
from alexnet_lit.callbacks.board.tally import Tally
from alexnet_lit.callbacks.speed import Speed
from alexnet_lit.callbacks.tensorboard import TensorBoard


class Board(Callback):
    """Draws what TensorBoard shows beside the curves, if that is among the loggers.

    It sees the answers of the validation and the test that there are anyway. Pictures belong to the step of a
    validation. They are left out where they would take more than `share` of the time so far; those of the last
    validation are then drawn when the fit has ended. The first rank draws: what is counted is counted over all ranks,
    images are of its own share. Where several devices hold the net together (towers, hybrid), its inside is shown once,
    when the fit has ended and it is whole again, and the last hidden layer isn't; nor is that of a compiled net.

    every: validations from one set of pictures to the next. kernels ... histograms: which there are, see Pictures.
    images: how many in `mistakes` and `batch`. pr_curves: at the test, of up to 30 classes. projector: so many images'
    last hidden layer at the test; 0 for none.
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
        self.pr_curves = pr_curves
        self.projector = projector
        self.pictures = Pictures(
            images=images,
            batch=batch,
            confusion=confusion,
            classes=classes,
            mistakes=mistakes,
            kernels=kernels,
            activations=activations,
            histograms=histograms,
        )
        self._allowance = Allowance(share)
        self._validations = 0
        self._batch_due = batch
        self._tally: Tally | None = None  # of the validation or test that is going on
        self._waiting: Answers | None = None  # what isn't drawn yet
        self._image: Tensor | None = None  # (C, S, S), the one whose activations are shown
        self._inside_at = -1  # the step whose inside was drawn last
        self._embedding: Embedding | None = None
        self._gradients: dict[str, Tensor] = {}  # of the last step, which Lightning lets go before a validation

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were, and whether a batch is to be drawn."""
        return {"validations": self._validations, "batch_due": self._batch_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._validations, self._batch_due = state_dict["validations"], state_dict["batch_due"]

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Pictures may take a share of the time from here."""
        self._allowance.start()

    def on_train_batch_start(self, *_: Any) -> None:
        """Let the gradients of the last step go, as new ones come."""
        self._gradients = {}

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        """Draw the first batch, and the first one after each set of pictures, as no part of training's time."""
        if self.pictures.histograms and _is_whole(trainer):
            named = module.net.named_parameters()
            gradients = {name: each.grad for name, each in named if each.grad is not None}
            # Those of a compiled net may lie in a CUDA graph, whose next forward pass writes over them.
            copied = module.net._compiled_call_impl is not None
            self._gradients = {name: each.clone() for name, each in gradients.items()} if copied else gradients
        if not self._batch_due:
            return
        self._batch_due = False
        if self._image is None:
            self._image = batch.images[0].clone()
        if (board := _board(trainer)) is not None and trainer.is_global_zero:
            Speed.of(trainer).pause(trainer)
            step = trainer.global_step
            board.add(self.pictures.of_batch(batch.images, batch.labels, module.classes, module.pixels, step), step)

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Begin to count."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and _board(trainer) is not None:
            self._tally = self._begin(module, probabilities=False)

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Take in the answers."""
        if self._tally is not None:
            self._tally.add(outputs, batch.labels, batch.images)
            if batch_idx == 0 and len(batch.images):
                self._image = batch.images[0].clone()

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        """Draw, if it is time to and there is time."""
        tally, self._tally = self._tally, None
        board = _board(trainer)
        if tally is None or board is None:
            return
        self._validations += 1
        if self._validations % self.every:
            return
        self._waiting = self._answers(trainer, module.validate, tally)
        if trainer.is_global_zero and self._allowance.allows:
            with self._allowance.spend():
                self._draw_answers(board, module)
                if _is_whole(trainer):
                    self._draw_inside(board, module, trainer.global_step)
            self._batch_due = self.pictures.batch

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Draw what is still to be drawn, now that the net is whole in any case."""
        if (board := _board(trainer)) is not None and trainer.is_global_zero:
            self._draw_answers(board, module)
            self._draw_inside(board, module, trainer.global_step)

    def on_test_start(self, trainer: Trainer, module: Any) -> None:
        """Begin to count."""
        if _board(trainer) is None:
            return
        self._tally = self._begin(module, probabilities=self.pr_curves and len(module.classes) <= MOST)
        compiled = module.net._compiled_call_impl is not None
        shown = not compiled and any(isinstance(layer, nn.Linear) for layer in module.net.modules())
        if self.projector and shown and trainer.is_global_zero and _is_whole(trainer):
            self._embedding = Embedding(module.net, self.projector)

    def on_test_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Take in the answers."""
        if self._tally is not None:
            self._tally.add(outputs, batch.labels, batch.images)
        if self._embedding is not None and self._embedding.wants_more:
            self._embedding.add(shown(batch.images[: self.projector], module.pixels, SIDE), batch.labels.cpu())

    def on_test_end(self, trainer: Trainer, module: Any) -> None:
        """Draw: it is the only time."""
        tally, self._tally = self._tally, None
        embedding, self._embedding = self._embedding, None
        board = _board(trainer)
        if tally is None or board is None:
            return
        self._waiting = self._answers(trainer, "test", tally)
        counts = _everywhere(trainer, tally.curves(STEPS)) if tally.has_probabilities else None
        if trainer.is_global_zero:
            self._draw_answers(board, module)
            for curve in curves(counts, module.classes) if counts is not None else ():
                board.add(curve, trainer.global_step)
        if embedding is not None:
            embedding.close()
            embedding.write(Path(board.log_dir), module.classes, "last hidden layer, test images")

    def _begin(self, module: Any, *, probabilities: bool) -> Tally:
        shown = self.pictures.images if self.pictures.mistakes else 0
        return Tally(len(module.classes), mistakes=shown, probabilities=probabilities)

    def _answers(self, trainer: Trainer, stage: str, tally: Tally) -> Answers:
        return Answers(stage, trainer.global_step, _everywhere(trainer, tally.confusion()), tally.mistakes)

    def _draw_answers(self, board: TensorBoard, module: Any) -> None:
        answers, self._waiting = self._waiting, None
        if answers is not None:
            for picture in self.pictures.of_answers(answers, module.classes, module.pixels):
                board.add(picture, answers.step)

    def _draw_inside(self, board: TensorBoard, module: Any, step: int) -> None:
        if self._inside_at != step:
            self._inside_at = step
            for picture in self.pictures.of_inside(module.net, self._image, self._gradients):
                board.add(picture, step)


def _board(trainer: Trainer) -> TensorBoard | None:
    """The same on all ranks, of which the first alone writes."""
    return next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)


def _replicas(trainer: Trainer) -> int:
    """How many nets there are; fewer than ranks where several hold one together."""
    told = trainer.distributed_sampler_kwargs
    return int(told["num_replicas"]) if told is not None else 1


def _is_whole(trainer: Trainer) -> bool:
    return _replicas(trainer) == trainer.world_size


def _everywhere(trainer: Trainer, counts: Tensor) -> Tensor:
    """The counts of all ranks together, on the CPU: of those that hold one net together, once."""
    if trainer.world_size == 1:
        return counts
    counts = counts.to(trainer.strategy.root_device)
    torch.distributed.all_reduce(counts)
    return counts.cpu() // (trainer.world_size // _replicas(trainer))
