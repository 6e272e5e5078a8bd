"""What a pass over labelled images comes to, gathered while it goes on."""

from typing import NamedTuple

import torch
from torch import Tensor


class Mistakes(NamedTuple):
    """Images whose answers are wrong, the most certain first: images (k, C, S, S), the others (k,)."""

    images: Tensor
    labels: Tensor
    answers: Tensor
    certainty: Tensor  # probability of the answer; -1 where there are fewer mistakes than wanted


class Tally:
    """Takes in logits batch by batch. What it keeps is small, stays on the device, and is waited for at the end alone.

    mistakes: how many of the worst are kept. probabilities: keep those of each image and class too.
    """

    def __init__(self, classes: int, *, mistakes: int, probabilities: bool) -> None:
        self.classes = classes
        self._most = mistakes
        self._pairs: list[Tensor] = []  # true class and answer of each image as one number
        self._probabilities: list[Tensor] | None = [] if probabilities else None
        self.mistakes: Mistakes | None = None

    @property
    def has_probabilities(self) -> bool:
        """Whether `curves` has something to tell; the same on all ranks."""
        return self._probabilities is not None

    def add(self, logits: Tensor, labels: Tensor, images: Tensor) -> None:
        """Take in a batch: logits (B, classes), labels (B,), images (B, C, S, S)."""
        probabilities = logits.detach().float().softmax(1)
        certainty, answers = probabilities.max(1)
        self._pairs.append(labels * self.classes + answers)
        if self._probabilities is not None:
            self._probabilities.append(probabilities)
        if not self._most:
            return
        batch = Mistakes(images, labels, answers, certainty.where(answers != labels, -1.0))
        both = [self._worst(batch)] if self.mistakes is None else [self.mistakes, self._worst(batch)]
        self.mistakes = self._worst(Mistakes(*map(torch.cat, zip(*both, strict=True))))

    def _worst(self, mistakes: Mistakes) -> Mistakes:
        index = mistakes.certainty.topk(min(self._most, len(mistakes.certainty))).indices
        return Mistakes(*(part.index_select(0, index) for part in mistakes))

    def confusion(self) -> Tensor:
        """Counts int64 (classes, classes) on the CPU: a row a true class, a column an answer."""
        pairs = torch.cat(self._pairs).cpu() if self._pairs else torch.zeros(0, dtype=torch.int64)
        return torch.bincount(pairs, minlength=self.classes**2).view(self.classes, self.classes)

    def curves(self, steps: int) -> Tensor:
        """How often a class had at least a probability, by thresholds 0..1: int64 (2, classes, steps) on the CPU, first
        where it was the true class, then where it was not.
        """
        counts = torch.zeros(2, self.classes, steps, dtype=torch.int64)
        if not self._probabilities:
            return counts
        probabilities = torch.cat(self._probabilities).cpu()
        labels = torch.cat(self._pairs).cpu() // self.classes
        passed = (probabilities * (steps - 1)).long()  # (N, classes): the last threshold that it reaches
        true = torch.nn.functional.one_hot(labels, self.classes).bool()
        for n, chosen in enumerate((true, ~true)):
            for one in range(self.classes):
                counts[n, one] = torch.bincount(passed[chosen[:, one], one], minlength=steps)
        return counts.flip(2).cumsum(2).flip(2)
