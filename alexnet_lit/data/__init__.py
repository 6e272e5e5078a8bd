"""Where images come from, and how a batch of them becomes what the net sees."""

from alexnet_lit.data.augment import Augment, TestTimeAugmentation
from alexnet_lit.data.datamodule import ImageData
from alexnet_lit.data.fashion_mnist import CLASSES, FashionMNIST, Sample, fetch
from alexnet_lit.data.image_folder import ImageFolder, changed_classes
from alexnet_lit.data.loader import Batch, BatchLoader, EpochSampler, MappedImages, rank_and_world_size
from alexnet_lit.data.transforms import Preprocess

__all__ = [
    "CLASSES",
    "Augment",
    "Batch",
    "BatchLoader",
    "EpochSampler",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "MappedImages",
    "Preprocess",
    "Sample",
    "TestTimeAugmentation",
    "changed_classes",
    "fetch",
    "rank_and_world_size",
]
