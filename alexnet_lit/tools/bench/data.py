"""Images that a training loop gets: from this pipeline, beside the course's DataLoader over pictures made by PIL."""

import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from statistics import median

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from alexnet_lit.config import compose
from alexnet_lit.data import BatchLoader, EpochSampler
from alexnet_lit.factory import build
from alexnet_lit.tools.bench.step import our_step
from alexnet_lit.tools.bench.timing import Report, alternate, conditions, ratios, spread, wait

_IMAGES = 60_000  # as many as Fashion-MNIST has, repeated from the sample
_SIZE = 224
_BATCHES = 20  # that are timed of an epoch
_FIRST = 5  # that come before: memory which the system hands out for the first time costs more than all the rest
_WORKERS = (0, 2, 4)
_SWITCHES = {
    "this pipeline": ("data.augment.mirror=false",),
    "this pipeline, crop and mirror": ("data.augment.mirror=true", "data.augment.crop=0.875"),
}


class Pictures(Dataset[tuple[Tensor, int]]):
    """A data set as torchvision's FashionMNIST is one: each image becomes a PIL picture, then is transformed."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels
        self.transform = transforms.Compose([transforms.Resize(_SIZE), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def bench_data(*, batch: int, repeats: int, device: str) -> Report:
    """Images/s in the steady part of an epoch, at 224 px: the course's loader by workers, and this pipeline.

    On cuda the pipeline's images end on the device, and the loader's in memory.
    """
    _, data = build(compose("data=sample", "data.val_size=0", "objective=null"))
    data.setup("fit")
    images, labels = first(data.images["train"], _IMAGES)
    loaders = {
        f"the course's loader, {workers} workers": _theirs(images, labels, batch, workers) for workers in _WORKERS
    }
    cases = loaders | {name: _ours(images, labels, batch, device, switches) for name, switches in _SWITCHES.items()}
    step = our_step(images[:batch].to(device), labels[:batch].to(device), device)
    rounds: dict[str, list[float]] = {name: [] for name in cases}  # seconds a batch
    steps: list[float] = []
    for _ in range(repeats):
        for name, case in cases.items():
            rounds[name].append(case())
        steps += alternate({"step": step}, repeats=1, device=device)["step"]
    best = min(loaders, key=lambda name: median(rounds[name]))
    rows = [
        {
            "images": name,
            "images/s": f"{batch / median(seconds):.0f}",
            "times the course's loader at its best": spread(ratios(rounds[best], seconds), 1),
            "% of a training step": f"{100 * median(ratios(seconds, steps)):.2f}",
        }
        for name, seconds in rounds.items()
    ]
    how = f"batch {batch}, float32, medians of {repeats} rounds in turn; ratios round by round, with their range"
    speed = f"a training step of experiment=d2l, {batch / median(steps):.1f} images/s"
    return Report("Input pipeline", conditions(device, how, speed), rows)


def first(pair: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """So many images with their labels, from the beginning again where there are fewer."""
    images, labels = pair
    index = torch.arange(count) % len(labels)
    return images[index], labels[index].long()


def _theirs(images: Tensor, labels: Tensor, batch: int, workers: int) -> Callable[[], float]:
    """Times the loader that the course makes, once its workers run and what they prepared ahead is used up."""
    skip = 2 * workers + _FIRST
    few = Pictures(images[: (skip + _BATCHES) * batch], labels)

    def case() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more workers than cores, and of forks of a process with threads
            loader = DataLoader(few, batch_size=batch, shuffle=True, num_workers=workers)
            return seconds_a_batch(loader, skip, "cpu")

    return case


def _ours(images: Tensor, labels: Tensor, batch: int, device: str, switches: tuple[str, ...]) -> Callable[[], float]:
    """Times this pipeline: gather, augment, normalise, enlarge."""
    _, data = build(compose("data=sample", *switches))
    data.pixels.to(device)
    sampler = EpochSampler(len(images), seed=0, shuffle=True, num_random_values=data.augment.num_random_values)
    loader = BatchLoader(images.to(device), labels.to(device), sampler, batch_size=batch)

    def case() -> float:
        return seconds_a_batch((data.on_after_batch_transfer(part, 0) for part in loader), _FIRST, device)

    return case


def seconds_a_batch(batches: Iterable[object], skip: int, device: str) -> float:
    """Seconds of one of the batches that follow the first `skip`."""
    iterator = iter(batches)
    for _ in islice(iterator, skip):
        pass
    wait(device)
    start = time.perf_counter()
    count = sum(1 for _ in islice(iterator, _BATCHES))
    wait(device)
    return (time.perf_counter() - start) / count
