"""An epoch in small, loading and evaluation included: this project beside the course's program."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import DataLoader

from alexnet_lit.bench.data import Pictures
from alexnet_lit.bench.step import course_net
from alexnet_lit.bench.timing import Report, conditions, ratios, spread, wait
from alexnet_lit.config import compose
from alexnet_lit.data.files import load_sample
from alexnet_lit.factory import build
from alexnet_lit.prepare import prepare
from alexnet_lit.watch import quiet_libraries

_TRAIN, _TEST = 6, 1  # batches, as 60,000 images are to 10,000
_COURSE, _OURS, _LOOP = "the course's program", "this project", "this project's steps without Lightning"


def bench_epoch(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds of training on six batches and evaluating one with the course's recipe at 224 px, loading included.

    The course's program reads pictures through PIL in a DataLoader of two workers, whose start is part of its epochs,
    and asks after each step for loss and accuracy. This project trains through Lightning as a run does, but for
    checkpoints and event files; its steps without Lightning have the same data, net and optimizer.
    """
    config = compose(
        *("experiment=d2l", "data=sample", f"data.batch_size={batch}", f"trainer.limit_train_batches={_TRAIN}"),
        *(f"trainer.limit_val_batches={_TEST}", "trainer.max_epochs=1", "trainer.enable_checkpointing=false"),
        *("trainer.enable_progress_bar=false", "logger=none", f"trainer.accelerator={device}"),
    )
    with TemporaryDirectory() as scratch:
        cases = {
            _COURSE: _course(batch, device),
            _OURS: _lightning(config, Path(scratch), device),
            _LOOP: _loop(config, device),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for n in range(repeats + 1):
            for name, case in cases.items():
                took = case()
                if n:
                    seconds[name].append(took)
    rows = [
        {
            "program": name,
            "s": f"{median(seconds[name]):.2f}",
            "training images/s, all included": f"{_TRAIN * batch / median(seconds[name]):.1f}",
            "times the course's program": spread(ratios(seconds[_COURSE], seconds[name])),
            "% more time than without Lightning": spread(
                [100 * (ratio - 1) for ratio in ratios(seconds[name], seconds[_LOOP])], 1
            ),
        }
        for name in cases
    ]
    how = f"{_TRAIN} batches of {batch} for training and {_TEST} for evaluation, float32, medians of {repeats} rounds"
    return Report("An epoch, in small", conditions(device, how), rows)


def _course(batch: int, device: str) -> Callable[[], float]:
    """The course's program, in its own words."""
    sample = load_sample()
    train, test = (
        DataLoader(Pictures(*_first(part, count * batch)), batch, shuffle=shuffle, num_workers=2)
        for part, count, shuffle in ((sample.train, _TRAIN, True), (sample.test, _TEST, False))
    )
    net = course_net().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    told: list[float] = []

    def epoch() -> float:
        wait(device)
        began = time.perf_counter()
        net.train()
        for images, labels in train:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            told.extend((loss.item(), (logits.argmax(1) == labels).sum().item()))
        net.eval()
        with torch.no_grad():
            for images, labels in test:
                told.append((net(images.to(device)).argmax(1) == labels.to(device)).sum().item())
        return time.perf_counter() - began

    return epoch


def _first(part: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """So many images with their labels, from the beginning again where there are fewer."""
    images, labels = part
    index = torch.arange(count) % len(labels)
    return images[index], labels[index].long()


class _Clock(Callback):
    """Times an epoch of a trainer, its evaluation included."""

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.began


def _lightning(config: DictConfig, scratch: Path, device: str) -> Callable[[], float]:
    def epoch() -> float:
        quiet_libraries()
        parts = prepare(config, scratch)
        clock = _Clock()
        parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined] # set by Lightning's callback connector
        parts.trainer.fit(parts.module, datamodule=parts.data)
        return clock.seconds

    return epoch


def _loop(config: DictConfig, device: str) -> Callable[[], float]:
    module, data = build(config)
    module.to(device)
    data.setup("fit")
    optimizer = module.optimizer(module.net.parameters())

    def epoch() -> float:
        wait(device)
        began = time.perf_counter()
        module.train()
        train, test = (iter(loader) for loader in (data.train_dataloader(), data.val_dataloader()))
        for _ in range(_TRAIN):
            batch = data.on_after_batch_transfer(data.transfer_batch_to_device(next(train), torch.device(device), 0), 0)
            optimizer.zero_grad()
            F.cross_entropy(module.net(batch.images), batch.labels).backward()
            optimizer.step()
        module.eval()
        with torch.no_grad():
            for _ in range(_TEST):
                batch = data.on_after_batch_transfer(
                    data.transfer_batch_to_device(next(test), torch.device(device), 0), 0
                )
                (module.net(batch.images).argmax(1) == batch.labels).sum().item()
        return time.perf_counter() - began

    return epoch
