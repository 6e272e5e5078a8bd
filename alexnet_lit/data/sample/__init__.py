"""The embedded sample of Fashion-MNIST, and how it was made."""

import gzip
from pathlib import Path

import torch

from alexnet_lit.data.idx import CLASSES, Split, read_pair

PER_CLASS = {"train": 200, "t10k": 50}


def write_sample(source: Path, into: Path) -> None:
    """Write the sample's four files into the folder `into`, from those of the whole data set (gz) in `source`.

    No draw decides: of each class the first 200 training and 50 test images are taken, and the files' order is kept.
    The files have no time stamp or name inside, so that they are the same whoever makes them (with the same zlib).
    """
    for part, count in PER_CLASS.items():
        names = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        images, labels = choose(read_pair(source / names[0], source / names[1]), count)
        for name, tensor in zip(names, (images, labels.to(torch.uint8)), strict=True):
            sizes = b"".join(size.to_bytes(4, "big") for size in tensor.shape)
            content = (0x0800 + tensor.dim()).to_bytes(4, "big") + sizes + bytes(tensor.flatten().tolist())
            (into / name).write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def choose(split: Split, count: int) -> Split:
    """Take the first `count` images of each class, in the order they come in."""
    of_class = [(split.labels == label).nonzero().flatten()[:count] for label in range(CLASSES)]
    chosen = torch.cat(of_class).sort().values
    return Split(split.images[chosen], split.labels[chosen])
