"""The input pipeline, and a shortened epoch with evaluation, beside the course's program, which uses PIL."""

import time
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from alexnet_lit.config import compose
from alexnet_lit.data import ImageData
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.factory import build
from alexnet_lit.prepare import prepare
from alexnet_lit.terminal import quiet_libraries
from alexnet_lit.tools.bench.step import course_net
from alexnet_lit.tools.bench.timing import Table, has_bf16, ratios, rounds, spread, wait

_IMAGES = 60_000  # as many as Fashion-MNIST has, repeated from the sample
_BATCHES = 20  # number of timed batches of an epoch
_FIRST = 5  # batches before them: memory that the system hands out for the first time costs more than the rest
_SWITCHES = {
    "this pipeline": ("data.augment.mirror=false",),
    "this pipeline, crop and mirror": ("data.augment.mirror=true", "data.augment.crop=0.875"),
}
_QUIET = ("logger=none", "trainer.enable_checkpointing=false", "trainer.enable_progress_bar=false")
_COURSE, _OURS = "the course's program", "this project"
_TRAIN, _TEST = {"cpu": 6, "cuda": 60}, {"cpu": 1, "cuda": 10}  # batches of an epoch, as 60,000 images to 10,000
_WORKERS = {"cpu": 2, "cuda": 4}  # in the course's loader
_EPOCHS = {"cpu": 1, "cuda": 2}  # the last one counts: on a GPU the first selects kernels and compiles


class Pictures(Dataset[tuple[Tensor, int]]):
    """A data set as torchvision's FashionMNIST is one: each image becomes a PIL picture, then is transformed."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.Resize(224), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def bench_data(*, batch: int, repeats: int, device: str) -> Table:
    """Images/s in the steady part of an epoch at 224 px: the course's loader by workers, and this pipeline.

    On cuda the pipeline's images end on the device, and the loader's in memory.
    """
    images, labels = repeated(load_sample()["train"], max(_IMAGES, (2 * 4 + _FIRST + _BATCHES) * batch))
    loaders = {
        f"the course's loader, {n} workers": partial(_course_loader, images, labels, batch, n) for n in (0, 2, 4)
    }
    cases = dict(loaders)
    for name, switches in _SWITCHES.items():
        _, data = build(compose("data=sample", f"data.batch_size={batch}", *switches))
        data.images = {"train": (images.to(device), labels.to(device))}
        data.pixels.to(device)
        cases[name] = partial(_our_pipeline, data, device)
    seconds = rounds(cases, repeats)
    best = min(loaders, key=lambda name: median(seconds[name]))
    rows = [
        {
            "images": name,
            "images/s": f"{batch / median(took):.0f}",
            "times the course's loader at its best": spread(ratios(seconds[best], took), 1),
        }
        for name, took in seconds.items()
    ]
    how = f"batch {batch}, float32, medians of {repeats} rounds in turn; ratios round by round, with their range"
    return {"title": "Input pipeline", "how": how, "rows": rows}


def repeated(pair: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """`count` images with their labels, from the beginning again where there are fewer."""
    index = torch.arange(count) % len(pair[1])
    return pair[0][index], pair[1][index].long()


def _course_loader(images: Tensor, labels: Tensor, batch: int, workers: int) -> float:
    skip = 2 * workers + _FIRST  # batches that the workers prepared ahead are not timed
    few = Pictures(images[: (skip + _BATCHES) * batch], labels)
    with warnings.catch_warnings(action="ignore"):  # more workers than cores, a fork of a process with threads
        return _seconds_a_batch(DataLoader(few, batch, shuffle=True, num_workers=workers), skip, "cpu")


def _our_pipeline(data: ImageData, device: str) -> float:
    batches = (data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())
    return _seconds_a_batch(batches, _FIRST, device)


def _seconds_a_batch(batches: Iterable[object], skip: int, device: str) -> float:
    """Seconds to make one of the batches that follow the first `skip`."""
    iterator = iter(batches)
    for _ in islice(iterator, skip):
        pass
    wait(device)
    start = time.perf_counter()
    count = sum(1 for _ in islice(iterator, _BATCHES))
    wait(device)
    return (time.perf_counter() - start) / count


def bench_epoch(*, batch: int, repeats: int, device: str) -> Table:
    """Seconds of training and evaluating with the course's recipe at 224 px, loading included.

    The course's program works in float32, reads pictures through PIL in a DataLoader with workers, whose start is part
    of its epochs, and asks after each step for loss and accuracy. This project trains through Lightning as a run does,
    but for checkpoints and event files: on a GPU with trainer.precision=auto, and in CUDA graphs too; on a CPU in
    float32, and in bf16 too with units for it.
    """
    shared = ("experiment=d2l", "data=sample", f"data.batch_size={batch}", f"trainer.accelerator={device}", *_QUIET)
    usual = (f"trainer.precision={'auto' if device == 'cuda' else '32-true'}", f"trainer.max_epochs={_EPOCHS[device]}")
    change = "model.compile=reduce-overhead" if device == "cuda" else "trainer.precision=bf16-mixed"
    configs = {_OURS: compose(*shared, *usual)}
    if has_bf16(device):
        configs[f"{_OURS}, {change}"] = compose(*shared, *usual, change)
    with TemporaryDirectory() as scratch:
        cases: dict[str, Callable[[], float]] = {_COURSE: _course_program(batch, device)}
        cases |= {name: partial(_run, each, Path(scratch), device) for name, each in configs.items()}
        seconds = rounds(cases, repeats)
    train, test = _TRAIN[device], _TEST[device]
    rows = [
        {
            "program": name,
            "s": spread(took),
            "training images/s, all included": f"{train * batch / median(took):.1f}",
            "times the course's program": spread(ratios(seconds[_COURSE], took)),
        }
        for name, took in seconds.items()
    ]
    how = f"{train} batches of {batch} for training and {test} for evaluation, medians of {repeats} rounds"
    theirs = f"the course's program in float32 with {_WORKERS[device]} workers, {_OURS} with {usual[0]}"
    return {"title": "A shortened epoch", "how": f"{how}; {theirs}", "rows": rows}


def _course_program(batch: int, device: str) -> Callable[[], float]:
    """Returns what trains for an epoch, evaluates, and returns the seconds of both."""
    sample, workers = load_sample(), _WORKERS[device]
    train = Pictures(*repeated(sample["train"], _TRAIN[device] * batch))
    test = Pictures(*repeated(sample["test"], _TEST[device] * batch))
    train_loader = DataLoader(train, batch, shuffle=True, num_workers=workers)
    test_loader = DataLoader(test, batch, num_workers=workers)
    net = course_net().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def epoch() -> float:
        metrics: list[float] = []
        wait(device)
        began = time.perf_counter()
        net.train()
        for images, labels in train_loader:
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            logits = net(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            metrics += [loss.item(), (logits.argmax(1) == labels).sum().item()]
        net.eval()
        right = torch.zeros((), device=device)
        with torch.no_grad():
            for images, labels in test_loader:
                right += (net(images.to(device)).argmax(1) == labels.to(device)).sum()
        right.item()
        return time.perf_counter() - began

    return epoch


def _run(config: DictConfig, folder: Path, device: str) -> float:
    """Seconds of the last epoch of a run, its evaluation included."""
    if config.model.compile:
        torch.compiler.reset()  # else each round's net counts as one more shape of the first one's
    quiet_libraries()
    objects = prepare(config, folder)
    data = objects.data
    data.setup("fit")
    data.images["train"] = repeated(data.images["train"], _TRAIN[device] * data.batch_size)
    data.images["test"] = repeated(data.images["test"], _TEST[device] * data.batch_size)
    clock: dict[str, float] = {}
    marks = LambdaCallback(
        on_train_epoch_start=lambda *_: clock.update(began=time.perf_counter()),
        on_validation_end=lambda *_: clock.update(ended=time.perf_counter()),
    )
    objects.trainer.callbacks.append(marks)  # type: ignore[attr-defined] # set by Lightning's callback connector
    objects.trainer.fit(objects.module, datamodule=data)
    return clock["ended"] - clock["began"]
