"""Whole runs: an epoch in small beside the course's program, and how soon a recipe reaches an accuracy."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader

from alexnet_lit.config import compose
from alexnet_lit.data import fetch
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.errors import UserError
from alexnet_lit.prepare import RunObjects, prepare
from alexnet_lit.terminal import quiet_libraries
from alexnet_lit.tools.bench.data import Pictures, repeated
from alexnet_lit.tools.bench.step import course_net
from alexnet_lit.tools.bench.timing import Report, conditions, precisions, ratios, rounds, spread, wait

_QUIET = ("logger=none", "trainer.enable_checkpointing=false", "trainer.enable_progress_bar=false")
_COURSE, _OURS, _LOOP = "the course's program", "this project", "this project's steps without Lightning"
_TRAIN, _TEST = {"cpu": 6, "cuda": 60}, {"cpu": 1, "cuda": 10}  # batches of an epoch, as 60,000 images to 10,000
_WORKERS = {"cpu": 2, "cuda": 4}  # of the course's loader
_EPOCHS = {"cpu": 1, "cuda": 2}  # of which the last counts: on a GPU the first one finds kernels and compiles
_LOOKS = {"cpu": 5, "cuda": 10}  # at validation images, in a run of `reach`
_LOOKED_AT = {"cpu": 256, "cuda": 2048}  # validation images
_LEVELS = {"cpu": [0.6, 0.7, 0.75], "cuda": [0.8, 0.85, 0.883]}  # the last is the course's published accuracy

Batches = Callable[[str], Iterable[tuple[Tensor, Tensor]]]  # of "train" and of "test": images and labels on the device


def bench_epoch(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds of training and evaluating with the course's recipe at 224 px, loading included.

    The course's program works in float32, reads pictures through PIL in a DataLoader with workers, whose start is part
    of its epochs, and asks after each step for loss and accuracy. This project trains through Lightning as a run does,
    but for checkpoints and event files, with trainer.precision=auto on a GPU; on a CPU in float32, and in bf16 too with
    units for it. Its steps without Lightning have the same data, net, precision and optimizer.
    """
    first, *others = precisions(device)
    shared = ("experiment=d2l", "data=sample", f"data.batch_size={batch}", f"trainer.accelerator={device}", *_QUIET)
    length = (f"trainer.precision={first}", f"trainer.max_epochs={_EPOCHS[device]}")
    changes = [f"trainer.precision={each}" for each in others]
    changes += ["model.compile=reduce-overhead"] if device == "cuda" else []
    configs = {_OURS: compose(*shared, *length)}
    configs |= {f"{_OURS}, {each}": compose(*shared, *length, each) for each in changes}
    with TemporaryDirectory() as scratch:
        cases: dict[str, Callable[[], float]] = {_COURSE: _course_epoch(batch, device)}
        cases |= {name: partial(_lightning_epoch, each, Path(scratch), device) for name, each in configs.items()}
        objects = _prepare_epoch(configs[_OURS], Path(scratch), device)
        cases[_LOOP] = _plain_epoch(objects, device)
        seconds = rounds(cases, repeats)
    train, test = _TRAIN[device], _TEST[device]
    more = [a - b for a, b in zip(seconds[_OURS], seconds[_LOOP], strict=True)]
    overhead = {
        "% more time by Lightning": spread([100 * a / b for a, b in zip(more, seconds[_LOOP], strict=True)], 1),
        "ms more a step by Lightning": spread([1e3 * each / (train + test) for each in more], 1),
    }
    rows = [
        {
            "program": name,
            "s": spread(seconds[name]),
            "training images/s, all included": f"{train * batch / median(seconds[name]):.1f}",
            "times the course's program": spread(ratios(seconds[_COURSE], seconds[name])),
            **(overhead if name == _OURS else dict.fromkeys(overhead, "")),
        }
        for name in seconds
    ]
    how = f"{train} batches of {batch} for training and {test} for evaluation, medians of {repeats} rounds"
    theirs = f"the course's program in float32 with {_WORKERS[device]} workers"
    ours = f"{_OURS} with trainer.precision={objects.config.trainer.precision}"
    return Report("An epoch, in small", conditions(device, how, theirs, ours), rows)


def _course_epoch(batch: int, device: str) -> Callable[[], float]:
    sample, workers = load_sample(), _WORKERS[device]
    train = Pictures(*repeated(sample.train, _TRAIN[device] * batch))
    test = Pictures(*repeated(sample.test, _TEST[device] * batch))
    loaders = {
        "train": DataLoader(train, batch, shuffle=True, num_workers=workers),
        "test": DataLoader(test, batch, num_workers=workers),
    }
    net = course_net().to(device)

    def batches(name: str) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in loaders[name]:
            yield images.to(device), labels.to(device)

    return partial(_loop, net, torch.optim.SGD(net.parameters(), lr=0.01), batches, device, read=True)


def _plain_epoch(objects: RunObjects, device: str) -> Callable[[], float]:
    """The steps of `_lightning_epoch` in a loop of their own."""
    module, data = objects.module.to(device), objects.data
    data.trainer = objects.trainer  # knows on which device images lie

    def batches(name: str) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in data.train_dataloader() if name == "train" else data.val_dataloader():
            batch = data.transfer_batch_to_device(batch, module.device, 0)
            batch = data.on_after_batch_transfer(batch, 0)
            yield batch.images, batch.labels

    optimizer, autocast = module.optimizer(module.net.parameters()), objects.trainer.precision_plugin.forward_context
    return partial(_loop, module.net, optimizer, batches, device, autocast)


def _loop(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    device: str,
    autocast: Callable[[], Any] = nullcontext,
    *,
    read: bool = False,
) -> float:
    """Seconds of an epoch of training and an evaluation. read: loss and accuracy after each step."""
    metrics: list[float] = []
    wait(device)
    began = time.perf_counter()
    net.train()
    for images, labels in batches("train"):
        optimizer.zero_grad()
        with autocast():
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        if read:
            metrics += [loss.item(), (logits.argmax(1) == labels).sum().item()]
    net.eval()
    right = torch.zeros((), device=device)
    with torch.no_grad(), autocast():
        for images, labels in batches("test"):
            right += (net(images).argmax(1) == labels).sum()
    right.item()
    return time.perf_counter() - began


def _prepare_epoch(config: DictConfig, folder: Path, device: str) -> RunObjects:
    """All objects of a run, and as many images as an epoch takes."""
    quiet_libraries()
    objects = prepare(config, folder)
    data = objects.data
    data.setup("fit")
    data.images["train"] = repeated(data.images["train"], _TRAIN[device] * data.batch_size)
    data.images["test"] = repeated(data.images["test"], _TEST[device] * data.batch_size)
    return objects


def _lightning_epoch(config: DictConfig, folder: Path, device: str) -> float:
    """Seconds of the last epoch of a run, its evaluation included."""
    if config.model.compile:
        torch.compiler.reset()  # else each round's net counts as one more shape of the first one's
    objects = _prepare_epoch(config, folder, device)
    clock: dict[str, float] = {}
    marks = LambdaCallback(
        on_train_epoch_start=lambda *_: clock.update(began=time.perf_counter()),
        on_validation_end=lambda *_: clock.update(ended=time.perf_counter()),
    )
    objects.trainer.callbacks.append(marks)  # type: ignore[attr-defined] # set by Lightning's callback connector
    objects.trainer.fit(objects.module, datamodule=objects.data)
    return clock["ended"] - clock["began"]


class Reached(NamedTuple):
    """Of a run: by level the training images and seconds of fit until there; its best accuracy; the images it had."""

    levels: dict[float, tuple[int, float]]
    best: float
    images: int


def bench_reach(*, batch: int, repeats: int, device: str) -> Report:
    """Training images and seconds of fit, validation included, until validation accuracy comes to a level.

    On a CPU one run each of at most 30 batches' images, in float32; with units for bf16, ours in it too. On cuda
    `repeats` seeds, of at most 20,000 images (which is what experiment=fast takes) and, with the course's recipe,
    550,000, its ten epochs. A run ends at the last level.
    """
    on_gpu, course = device == "cuda", "the course's recipe (experiment=d2l)"
    try:
        places = compose("data=fashion_mnist").data
        fetch(dir=Path(places.dir), search=places.search, mirrors=())
        data, lacking = ("data=fashion_mnist", "data.val_size=5000"), ""
    except UserError:
        data, lacking = ("data=sample", "data.val_size=400"), ", as Fashion-MNIST isn't on this machine"
    first, *others = (f"trainer.precision={each}" for each in precisions(device))
    recipes = {"experiment=fast": ("experiment=fast", first)}
    recipes |= {f"experiment=fast {each}": ("experiment=fast", each) for each in others}
    recipes[course] = ("experiment=d2l", "data.validate=val")
    seeds = range(repeats if on_gpu else 1)
    rows = []
    for name, recipe in recipes.items():
        images = 30 * batch if not on_gpu else 550_000 if name == course else 20_000
        runs = [_reach((*recipe, *data, f"seed={seed}"), device, images=images) for seed in seeds]
        for level in _LEVELS[device]:
            there = [run.levels[level] for run in runs if level in run.levels]
            words = [spread([images for images, _ in there], 0)] if there else []
            if missing := len(runs) - len(there):
                words.append(f"not within {runs[0].images}" + (f" in {missing} of {len(runs)}" if there else ""))
            rows.append(
                {
                    "recipe": name,
                    "accuracy": f"{level:g}",
                    "images": ", ".join(words),
                    "seconds": spread([seconds for _, seconds in there], 1) if there else "",
                    "best accuracy seen": f"{median(run.best for run in runs):.3f}",
                }
            )
    looks = f"{_LOOKED_AT[device]} validation images at most, {_LOOKS[device]} looks a run, n = {len(seeds)}"
    return Report("Images and seconds to an accuracy", conditions(device, data[0] + lacking, looks), rows)


def _reach(recipe: Sequence[str], device: str, *, images: int) -> Reached:
    """Train on at most so many images, and no longer than to the last level."""
    levels = _LEVELS[device]
    length = ("trainer.max_epochs=-1", "trainer.limit_train_batches=1.0", "trainer.check_val_every_n_epoch=null")
    where = (f"trainer.accelerator={device}", f"callbacks.milestones.levels={levels}")
    config = compose(*recipe, *length, *where, *_QUIET)
    size: int = config.data.batch_size
    steps = max(1, images // size)
    interval = max(1, steps // _LOOKS[device])
    steps -= steps % interval  # validated after the last step
    config.trainer.max_steps, config.trainer.val_check_interval = steps, interval
    config.trainer.limit_val_batches = max(1, _LOOKED_AT[device] // size)
    quiet_libraries()
    with TemporaryDirectory() as scratch:
        objects = prepare(config, Path(scratch))
        stop = EarlyStopping("val/acc", mode="max", patience=10**9, stopping_threshold=levels[-1])
        objects.trainer.callbacks.append(stop)  # type: ignore[attr-defined] # set by Lightning's callback connector
        objects.trainer.fit(objects.module, datamodule=objects.data)
    points = objects.picture.history.points
    train = objects.data.sizes["train"]

    def seen(step: int) -> int:
        epochs, steps = divmod(step, -(-train // size))
        return epochs * train + steps * size  # the last batch of an epoch may be smaller

    curves = {level: points.get(f"seconds_to_acc/{level:g}") for level in levels}
    reached = {level: (seen(curve[0][0]), curve[0][1]) for level, curve in curves.items() if curve}
    return Reached(reached, max(value for _, value in points["val/acc"]), seen(steps))
