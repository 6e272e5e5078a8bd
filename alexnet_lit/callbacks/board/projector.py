"""The last hidden layer's view of some images, for TensorBoard's Projector."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.image import imsave
from torch import Tensor, nn

from alexnet_lit.callbacks.board.picture import tiles

FOLDER = Path("plugins/org_tensorflow_tensorboard_projector")  # where TensorBoard looks, in the run folder
SIDE = 28  # px of an image on the page
_AXES = 64


class Embedding:
    """Keeps what the last linear layer of a net is given, of so many images, together with these and their labels.

    Nothing waits for the device. Of several views of an image the first counts. The net has a linear layer.
    """

    def __init__(self, net: nn.Module, count: int) -> None:
        last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
        self._handle = last.register_forward_pre_hook(self._note)
        self._count = count
        self._units: list[Tensor] = []
        self._images: list[Tensor] = []
        self._labels: list[Tensor] = []

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.wants_more and len(self._units) == len(self._labels):
            self._units.append(inputs[0].detach()[: self._left].flatten(1).float())

    @property
    def _left(self) -> int:
        return self._count - sum(map(len, self._labels))

    @property
    def wants_more(self) -> bool:
        """Whether there is room for images of another batch."""
        return self._left > 0

    def add(self, images: Tensor, labels: Tensor) -> None:
        """What belongs to the batch that the net has just seen: images uint8 (B, s, s, 3), labels (B,)."""
        count = self._left
        self._images.append(images[:count])
        self._labels.append(labels[:count])

    def close(self) -> None:
        """Leave the net alone."""
        self._handle.remove()

    def write(self, run: Path, classes: Sequence[str], name: str) -> None:
        """Write the files into the run folder: each image as a point on the 64 principal axes of all, its class, and a
        sheet of all images.
        """
        folder = run / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        points, images = principal(torch.cat(self._units).cpu()), torch.cat(self._images)
        rows = ("\t".join(f"{value:.4g}" for value in point) for point in points.tolist())
        (folder / "points.tsv").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        labels = (" ".join(classes[label].split()) for label in torch.cat(self._labels).tolist())
        (folder / "classes.tsv").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        imsave(folder / "images.png", _square(images).numpy())
        height, width = images.shape[1:3]
        (folder / "projector_config.pbtxt").write_text(
            f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "points.tsv"\n  metadata_path: "classes.tsv"\n'
            f'  sprite {{\n    image_path: "images.png"\n'
            f"    single_image_dim: {width}\n    single_image_dim: {height}\n  }}\n}}\n",
            encoding="utf-8",
        )


def _square(images: Tensor) -> Tensor:
    """Images uint8 (N, s, s, 3) as one, as wide as it is high, which the page takes for granted."""
    side = math.ceil(len(images) ** 0.5)
    empty = images.new_full((side**2 - len(images), *images.shape[1:]), 255)
    return tiles(torch.cat([images, empty]), side, 0)


def principal(units: Tensor) -> Tensor:
    """Units (N, D) on the principal axes of these N points, 64 at most: (N, k), the longest first."""
    # Some axes more than are wanted make those that are good; all N x N or D x D products would take minutes.
    with torch.random.fork_rng(devices=[]):
        found, lengths, _ = torch.pca_lowrank(units.double(), q=min(2 * _AXES, *units.shape), niter=4)
    points: Tensor = (found * lengths)[:, :_AXES]
    return points.float()
