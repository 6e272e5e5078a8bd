"""Where images come from, and how a batch of them becomes what the net sees."""

from typing import TYPE_CHECKING, Any

from alexnet_lit.data.augment import Augment
from alexnet_lit.data.datamodule import ImageData
from alexnet_lit.data.fashion_mnist import CLASSES, FashionMNIST, Sample
from alexnet_lit.data.loader import Batch
from alexnet_lit.data.transforms import Preprocess

if TYPE_CHECKING:
    from alexnet_lit.data.image_folder import ImageFolder

__all__ = ["CLASSES", "Augment", "Batch", "FashionMNIST", "ImageData", "ImageFolder", "Preprocess", "Sample"]


def __getattr__(name: str) -> Any:
    """ImageFolder when it is first asked for: most runs do not need it."""
    if name != "ImageFolder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from alexnet_lit.data.image_folder import ImageFolder

    return ImageFolder
