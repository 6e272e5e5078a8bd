"""Loss and accuracy over many batches, on all ranks together."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

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

    def update(self, loss_sum: Tensor | float, correct: Tensor | int, count: int) -> None:
        """Take in some images: the sum of their losses, how many were right, how many they are. Waits for no device."""
        self.loss_sum += loss_sum
        self.correct += correct
        self.count += count

    def sums(self) -> tuple[float, int, int]:
        """What was taken in on all ranks together: arguments of `update`."""
        with self.sync_context():
            loss_sum, correct, count = torch.stack([self.loss_sum, self.correct, self.count]).tolist()  # one wait
        return loss_sum, int(correct), int(count)

    def compute(self) -> dict[str, float]:
        """Loss in nats and accuracy in 0..1; nan where no image was seen."""
        loss_sum, correct, count = torch.stack([self.loss_sum, self.correct, self.count]).tolist()  # one wait
        return {"loss": loss_sum / count, "acc": correct / count} if count else {"loss": math.nan, "acc": math.nan}


class Scores(nn.ModuleDict):
    """A score for each stage, told apart from ModuleDict's own names, of which `train` is one."""

    def __init__(self) -> None:
        super().__init__({f"{stage}_score": Score() for stage in get_args(Stage)})

    def __getitem__(self, stage: str) -> Score:
        score = super().__getitem__(f"{stage}_score")
        assert isinstance(score, Score)
        return score
