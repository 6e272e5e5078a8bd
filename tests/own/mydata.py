"""A data set of one's own, in an npz file: images uint8 (N, 28, 28) and labels (N,), for training and test."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet_lit.data import ImageData


class Digits(ImageData):
    """file: has train_images, train_labels, test_images and test_labels."""

    source_size, channels, classes = 28, 1, tuple("0123456789")

    def __init__(self, *, file: str, **settings: Any) -> None:
        self.file = Path(file)
        with np.load(self.file) as arrays:
            self.train_total, self.test_total = len(arrays["train_labels"]), len(arrays["test_labels"])
        self.origin = str(self.file)
        super().__init__(**settings)

    def read(self) -> Any:
        """By split, images and labels."""
        with np.load(self.file) as arrays:
            return {
                split: (torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"]).long())
                for split in ("train", "test")
            }
