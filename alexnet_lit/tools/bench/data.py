"""Images/s of the input pipeline, beside the course's DataLoader over pictures made by PIL."""

import time
import warnings
from collections.abc import Iterable
from functools import partial
from itertools import islice
from statistics import median

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from alexnet_lit.config import compose
from alexnet_lit.data import ImageData
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.factory import build
from alexnet_lit.tools.bench.timing import Report, ratios, rounds, spread, wait

_IMAGES = 60_000  # as many as Fashion-MNIST has, repeated from the sample
_BATCHES = 20  # that are timed of an epoch
_FIRST = 5  # that come before: memory which the system hands out for the first time costs more than all the rest
_SWITCHES = {
    "this pipeline": ("data.augment.mirror=false",),
    "this pipeline, crop and mirror": ("data.augment.mirror=true", "data.augment.crop=0.875"),
}


class Pictures(Dataset[tuple[Tensor, int]]):
    """A data set as torchvision's FashionMNIST is one: each image becomes a PIL picture, then is transformed."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.Resize(224), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def bench_data(*, batch: int, repeats: int, device: str) -> Report:
    """Images/s in the steady part of an epoch at 224 px: the course's loader by workers, and this pipeline.

    On cuda the pipeline's images end on the device, and the loader's in memory.
    """
    images, labels = repeated(load_sample().train, _IMAGES)
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
    return Report("Input pipeline", how, rows)


def repeated(pair: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    """`count` images with their labels, from the beginning again where there are fewer."""
    index = torch.arange(count) % len(pair[1])
    return pair[0][index], pair[1][index].long()


def _course_loader(images: Tensor, labels: Tensor, batch: int, workers: int) -> float:
    skip = 2 * workers + _FIRST  # until what the workers prepared ahead is used up
    few = Pictures(images[: (skip + _BATCHES) * batch], labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more workers than cores, and of forks of a process with threads
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
