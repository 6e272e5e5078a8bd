"""A net of one layer with the batches, loaders and stages of the real one, and a terminal that is a string."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from alexnet_lit.data import Batch, ImageData
from alexnet_lit.data.loader import BatchLoader, EpochSampler

# Lightning 2.6.6 calls a function of torch's that torch 2.14 deprecates.
LIGHTNING_CHATTER = (
    r"ignore:.isinstance\(treespec, LeafSpec\)",
    r"ignore:Total length of `\w+` across ranks is zero",
    r"ignore:The number of training batches \(\d+\) is smaller than the logging interval",
)


def loader(batches: int) -> BatchLoader:
    """So many batches of eight."""
    images, labels = torch.ones(8 * batches, 4), torch.zeros(8 * batches, dtype=torch.long)
    return BatchLoader(images, labels, EpochSampler(8 * batches, seed=0), batch_size=8)


class Data(LightningDataModule):
    batch_size = 8
    batches = ImageData.batches

    def __init__(self, train: int = 4, val: int = 3, test: int = 5, views: int = 1, validate: str = "val") -> None:
        super().__init__()
        self.train, self.val, self.test, self.validate = train, val, test, validate
        self.views = SimpleNamespace(count=views)
        self.sizes = {"train": 8 * train, "val": 8 * val, "test": 8 * test}

    def train_dataloader(self) -> BatchLoader:
        return loader(self.train)

    def val_dataloader(self) -> BatchLoader:
        return loader(self.val)

    def test_dataloader(self) -> BatchLoader:
        return loader(self.test)


class Module(LightningModule):
    """Calls `happens` with the name of each stage's step, where a test may let time pass or raise."""

    def __init__(self, happens: Callable[[str], Any] = lambda stage: None) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.happens = happens

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.happens("train")
        loss = nn.functional.cross_entropy(self.net(batch.images), batch.labels)
        self.log_dict({"train/loss": loss, "train/acc": 0.5}, batch_size=8)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.happens("val")
        self.log("val/acc", 0.75, batch_size=8)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.happens("test")
        self.log("test/acc", 0.625, batch_size=8)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(**options: Any) -> Trainer:
    plain: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        **dict.fromkeys(("max_epochs", "log_every_n_steps"), 1),
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False),
        "enable_progress_bar": any("Progress" in type(callback).__name__ for callback in options.get("callbacks", [])),
        "num_sanity_val_steps": 0,
    }
    return Trainer(**{**plain, **options})


class SaveAt(Callback):
    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Clock:
    """Stands in for the module `time`: it moves only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def costs(self, **seconds: float) -> Callable[[str], None]:
        """For `Module.happens`: each step of a stage takes so long."""

        def happens(stage: str) -> None:
            self.now += seconds.get(stage, 0.0)

        return happens


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def frames(self) -> list[str]:
        """What stood in the bar's line, one after the other, without colours."""
        drawings = re.split(r"\r\x1b\[2K|\n", self.getvalue())
        plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", drawing).rstrip() for drawing in drawings]
        return list(dict.fromkeys(plain))
