"""A loss of one's own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_lit.lit import Classifier


class Weighted(Classifier):
    """weights: of the classes, in the training loss."""

    def __init__(self, *, weights: list[float], **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def loss_sum(self, stage: str, batch: Any, logits: Tensor) -> Tensor:
        """Sum of the losses of logits (B, classes); stage: train, val or test."""
        weights: Any = self.weights.float() if stage == "train" else None
        return F.cross_entropy(logits.float(), batch.labels, weights, reduction="sum")
