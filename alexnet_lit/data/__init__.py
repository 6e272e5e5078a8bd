"""Where images come from, and how a batch of them becomes what the net sees. Knows torch and Lightning's DataModule.

Names are imported when first asked for.
"""

from typing import TYPE_CHECKING

from alexnet_lit.lazy import lazily

if TYPE_CHECKING:
    from alexnet_lit.data.augment import Augment
    from alexnet_lit.data.batches import Batch, Batches, Order, share
    from alexnet_lit.data.fashion_mnist import CLASSES, FashionMNIST, Sample, fetch
    from alexnet_lit.data.image_folder import ImageFolder
    from alexnet_lit.data.module import ImageData
    from alexnet_lit.data.picture import square
    from alexnet_lit.data.pixels import Pixels
    from alexnet_lit.data.rows import Rows
    from alexnet_lit.data.views import Views

__all__ = [
    "CLASSES",
    "Augment",
    "Batch",
    "Batches",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "Order",
    "Pixels",
    "Rows",
    "Sample",
    "Views",
    "fetch",
    "share",
    "square",
]

_HOMES = {
    "Augment": "augment",
    "Batch": "batches",
    "Batches": "batches",
    "Order": "batches",
    "share": "batches",
    "CLASSES": "fashion_mnist",
    "FashionMNIST": "fashion_mnist",
    "fetch": "fashion_mnist",
    "Sample": "fashion_mnist",
    "ImageData": "module",
    "ImageFolder": "image_folder",
    "Pixels": "pixels",
    "Rows": "rows",
    "square": "picture",
    "Views": "views",
}

__getattr__ = lazily(__name__, _HOMES)
