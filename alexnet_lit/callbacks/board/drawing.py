"""The pictures that there are: of answers, and of the inside of a net."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch import Tensor, nn

from alexnet_lit.callbacks.board.activations import activations
from alexnet_lit.callbacks.board.classes import classes
from alexnet_lit.callbacks.board.gallery import gallery
from alexnet_lit.callbacks.board.histograms import histograms
from alexnet_lit.callbacks.board.kernels import kernels
from alexnet_lit.callbacks.board.picture import shown, summary
from alexnet_lit.callbacks.board.tally import Mistakes
from alexnet_lit.callbacks.confusion import confusion

_SIDE = 80  # px of an image in a gallery


@dataclass(frozen=True)
class Answers:
    """What a pass over images came to. confusion: int64 (classes, classes), over all ranks."""

    stage: str
    step: int
    confusion: Tensor
    mistakes: Mistakes | None


@dataclass(frozen=True)
class Pictures:
    """Which pictures are drawn, see Board."""

    kernels: bool
    activations: bool
    confusion: bool
    classes: bool
    mistakes: bool
    batch: bool
    histograms: bool
    images: int

    def of_answers(self, answers: Answers, names: Sequence[str], pixels: nn.Module) -> Iterator[Summary]:
        """What a net takes for what."""
        title = f"{answers.stage}, step {answers.step:,}"
        if self.confusion:
            figure = confusion(answers.confusion.tolist(), names, title, dpi=72)
            yield summary(f"{answers.stage}/confusion", figure)
        if self.classes:
            figure = classes(answers.confusion, names, f"accuracy of each class, {title}")
            yield summary(f"{answers.stage}/classes", figure)
        if answers.mistakes is not None and (answers.mistakes.certainty >= 0).any():
            yield summary(f"{answers.stage}/mistakes", _mistakes(answers.mistakes, names, pixels, title))

    def of_inside(self, net: nn.Module, image: Tensor | None, gradients: Mapping[str, Tensor]) -> Iterator[Summary]:
        """What a net has learned. image: (C, S, S), as the net sees it. gradients: by the names of parameters."""
        if self.kernels and (sheet := kernels(net)) is not None:
            yield summary("net/kernels", sheet)
        if self.activations and image is not None:
            yield summary("net/activations", activations(net, image))
        if self.histograms:
            yield from histograms(net, gradients)

    def of_batch(self, images: Tensor, labels: Tensor, names: Sequence[str], pixels: nn.Module, step: int) -> Summary:
        """What a net is trained on: images (B, C, S, S) as it sees them, of which the first are shown."""
        captions = [(names[label],) for label in labels[: self.images].tolist()]
        title = f"a batch of training, step {step:,}"
        return summary("train/batch", gallery(shown(images[: self.images], pixels, _SIDE), captions, title))


def _mistakes(mistakes: Mistakes, names: Sequence[str], pixels: nn.Module, title: str) -> Figure:
    wrong = mistakes.certainty >= 0
    captions = [
        (names[label], f"{names[answer][:11]} {100 * certainty:.0f}%")
        for label, answer, certainty in zip(*(part[wrong].tolist() for part in mistakes[1:]), strict=True)
    ]
    title = f"most certain mistakes, {title}: true class, answer and its probability"
    return gallery(shown(mistakes.images[wrong], pixels, _SIDE), captions, title)
