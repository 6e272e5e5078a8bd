"""Where images come from, and how a batch of them becomes what the net sees."""

from alexnet_lit.data.augment import Augment
from alexnet_lit.data.batches import Batch, Batches, Order, rank_and_world_size
from alexnet_lit.data.fashion_mnist import CLASSES, FashionMNIST, Sample, fetch
from alexnet_lit.data.image_folder import ImageFolder
from alexnet_lit.data.module import ImageData
from alexnet_lit.data.picture import square
from alexnet_lit.data.pixels import Preprocess
from alexnet_lit.data.rows import MappedImages
from alexnet_lit.data.views import TestTimeAugmentation

__all__ = [
    "CLASSES",
    "Augment",
    "Batch",
    "Batches",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "MappedImages",
    "Order",
    "Preprocess",
    "Sample",
    "TestTimeAugmentation",
    "fetch",
    "rank_and_world_size",
    "square",
]
