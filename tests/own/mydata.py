"""A data set of one's own, in an npz file: images uint8 (N, 28, 28) and labels (N,), for training and test."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet_lit.data import ImageData
from alexnet_lit.errors import UserError


class Digits(ImageData):
    """dir: has digits.npz, with train_images, train_labels, test_images and test_labels."""

    train_total, test_total = 60_000, 10_000  # images
    source_size, channels, classes = 28, 1, tuple(np.arange(10))

    def __init__(self, *, dir: str, **settings: Any) -> None:
        self.origin = str(Path(dir) / "digits.npz")
        super().__init__(**settings)

    def prepare_data(self) -> None:
        """Refuse before anything starts; what is missing could be downloaded here."""
        if not Path(self.origin).is_file():
            raise UserError(f"data.dir: there is no {self.origin}: name its folder")

    def read(self) -> Any:
        """By split, images and labels."""
        with np.load(self.origin) as arrays:
            return {
                split: (torch.from_numpy(arrays[f"{split}_images"]), torch.from_numpy(arrays[f"{split}_labels"]).long())
                for split in ("train", "test")
            }
