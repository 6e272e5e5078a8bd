"""Fashion-MNIST, whole and as the sample that comes with the package."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, validate_call

from alexnet_lit.data.files import fetch, load_fashion_mnist, load_sample
from alexnet_lit.data.module import ImageData, Pair, Split

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class FashionMNIST(ImageData):
    """60,000 + 10,000 images of clothes, 28x28 (Xiao et al. 2017).

    dir: folder that is looked in first and downloaded into. search: folders looked in next, `~` for home.
    mirrors: addresses of folders to download from, tried in turn. The rest: see ImageData.
    """

    train_total = 60_000
    test_total = 10_000
    source_size = 28
    channels = 1
    classes = CLASSES

    @validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    def __init__(self, *, dir: str, search: list[str], mirrors: list[str], **rest: Any) -> None:
        super().__init__(**rest)
        self.origin = dir
        self.places: dict[str, Any] = {"dir": Path(dir).expanduser().absolute(), "search": search, "mirrors": mirrors}

    def prepare_data(self) -> None:
        """Find the four files or download them. Raises: Mistake that says what is missing and the ways out."""
        self.origin = str(next(iter(fetch(**self.places).values())).parent)

    def read(self) -> dict[Split, Pair]:
        """All images and labels, each file checked. Raises: Mistake that names a broken file."""
        train, test = load_fashion_mnist(**self.places)
        return {"train": train, "test": test}


class Sample(ImageData):
    """2,000 + 500 images of Fashion-MNIST that are part of the package: no file to find, no network."""

    train_total = 2_000
    test_total = 500
    source_size = 28
    channels = 1
    classes = CLASSES
    origin = "the sample in the package"

    def read(self) -> dict[Split, Pair]:
        """All images and labels of the sample."""
        train, test = load_sample()
        return {"train": train, "test": test}
