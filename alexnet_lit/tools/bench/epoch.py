"""An epoch in small, loading and evaluation included: this project beside the course's program."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
import torch.nn.functional as F
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from alexnet_lit.callbacks.quiet import quiet_libraries
from alexnet_lit.config import compose
from alexnet_lit.data import Batch, Batches
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.prepare import RunObjects, prepare
from alexnet_lit.tools.bench.data import Pictures, first
from alexnet_lit.tools.bench.limits import precisions
from alexnet_lit.tools.bench.step import course_net
from alexnet_lit.tools.bench.timing import Report, conditions, ratios, spread, wait


class _Size(NamedTuple):
    """Batches, training to test as 60,000 images to 10,000; workers of the course's loader; epochs that a run of this
    project takes, of which the last counts: on a GPU the first one finds kernels and compiles.
    """

    train: int
    test: int
    workers: int
    epochs: int


_SIZES = {"cpu": _Size(6, 1, workers=2, epochs=1), "cuda": _Size(60, 10, workers=4, epochs=2)}
_COURSE, _OURS, _LOOP = "the course's program", "this project", "this project's steps without Lightning"
_GRAPHS = "this project, model.compile=reduce-overhead"


def bench_epoch(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds of training and evaluating with the course's recipe at 224 px, loading included.

    The course's program works in float32, reads pictures through PIL in a DataLoader with workers, whose start is part
    of its epochs, and asks after each step for loss and accuracy. This project trains through Lightning as a run does,
    with trainer.precision=auto on a GPU and in float32 on a CPU, but for checkpoints and event files; its steps without
    Lightning have the same data, net, precision and optimizer. A CPU that has instructions for bf16 trains in it too.
    """
    size, (first, *others) = _SIZES[device], precisions(device)
    config = compose(
        *("experiment=d2l", "data=sample", f"data.batch_size={batch}", f"trainer.precision={first}", "logger=none"),
        *(f"trainer.max_epochs={size.epochs}", "trainer.enable_checkpointing=false"),
        *("trainer.enable_progress_bar=false", f"trainer.accelerator={device}"),
    )
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        cases: dict[str, Callable[[], float]] = {
            _COURSE: _course(batch, device, size),
            _OURS: lambda: _run(config, folder, size),
        }
        for other in others:
            changed = config.copy()
            changed.trainer.precision = other
            cases[f"{_OURS}, trainer.precision={other}"] = partial(_run, changed, folder, size)
        if device == "cuda":
            compiled = config.copy()
            compiled.model.compile = "reduce-overhead"
            cases[_GRAPHS] = lambda: _run(compiled, folder, size)
        parts = _parts(config, folder, size)
        cases[_LOOP] = _loop(parts)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for n in range(repeats + 1):
            for name, case in cases.items():
                took = case()
                if n:
                    seconds[name].append(took)
    how = f"{size.train} batches of {batch} for training and {size.test} for evaluation, medians of {repeats} rounds"
    theirs = f"the course's program in float32 with {size.workers} workers"
    ours = f"this project with trainer.precision={parts.config.trainer.precision}"
    return Report("An epoch, in small", conditions(device, how, theirs, ours), _rows(seconds, batch, size))


def _rows(seconds: dict[str, list[float]], batch: int, size: _Size) -> list[dict[str, str]]:
    more = [a - b for a, b in zip(seconds[_OURS], seconds[_LOOP], strict=True)]
    overhead = {
        "% more time by Lightning": spread([100 * a / b for a, b in zip(more, seconds[_LOOP], strict=True)], 1),
        "ms more a step by Lightning": spread([1e3 * each / (size.train + size.test) for each in more], 1),
    }
    return [
        {
            "program": name,
            "s": spread(seconds[name]),
            "training images/s, all included": f"{size.train * batch / median(seconds[name]):.1f}",
            "times the course's program": spread(ratios(seconds[_COURSE], seconds[name])),
            **(overhead if name == _OURS else dict.fromkeys(overhead, "")),
        }
        for name in seconds
    ]


def _course(batch: int, device: str, size: _Size) -> Callable[[], float]:
    """The course's program, in its own words."""
    sample = load_sample()
    train, test = (
        DataLoader(Pictures(*first(part, count * batch)), batch, shuffle=shuffle, num_workers=size.workers)
        for part, count, shuffle in ((sample.train, size.train, True), (sample.test, size.test, False))
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


class _Clock(Callback):
    """Times an epoch of a trainer, its evaluation included. Of several it keeps the last."""

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.began


def _parts(config: DictConfig, folder: Path, size: _Size) -> RunObjects:
    """All objects of a run, and as many images as an epoch takes."""
    quiet_libraries()
    parts = prepare(config, folder)
    data = parts.data
    data.setup("fit")
    for split, count in (("train", size.train), ("test", size.test)):
        data.images[split] = first(data.images[split], count * data.batch_size)  # type: ignore[index] # two of its keys
    return parts


def _run(config: DictConfig, folder: Path, size: _Size) -> float:
    if config.model.compile:
        torch.compiler.reset()  # else each round's net counts as one more shape of the first one's
    parts = _parts(config, folder, size)
    clock = _Clock()
    parts.trainer.callbacks.append(clock)  # type: ignore[attr-defined] # set by Lightning's callback connector
    parts.trainer.fit(parts.module, datamodule=parts.data)
    return clock.seconds


def _loop(parts: RunObjects) -> Callable[[], float]:
    module, data = parts.module, parts.data
    device = parts.trainer.strategy.root_device
    module.to(device)
    data.trainer = parts.trainer  # which says where images are to lie
    optimizer = module.optimizer(module.net.parameters())
    autocast = parts.trainer.precision_plugin.forward_context

    def batches(loader: Batches) -> Iterator[Batch]:
        for batch in loader:
            yield data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)

    def epoch() -> float:
        wait(device.type)
        began = time.perf_counter()
        module.train()
        for batch in batches(data.train_dataloader()):
            optimizer.zero_grad()
            with autocast():
                loss = F.cross_entropy(module.net(batch.images), batch.labels)
            loss.backward()
            optimizer.step()
        module.eval()
        right = torch.zeros((), device=device)
        with torch.no_grad(), autocast():
            for batch in batches(data.val_dataloader()):
                right += (module.net(batch.images).argmax(1) == batch.labels).sum()
        right.item()
        return time.perf_counter() - began

    return epoch
