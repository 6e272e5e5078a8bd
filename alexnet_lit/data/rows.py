"""Images that are gathered from a larger tensor only when a batch asks for them."""

import torch
from torch import Tensor

_PART = 1024  # images that are moved at a time


class MappedImages:
    """Some images of a tensor that may be a file's mapping: what is asked for is read, the whole is never in memory.

    images: uint8 (rows, C, H, W). rows: int64 (N,), where each of the N images is.
    """

    def __init__(self, images: Tensor, rows: Tensor) -> None:
        self.images = images
        self.rows = rows
        self._pinned = torch.cuda.is_available()  # memory that a GPU fetches from without waiting

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Read the images at index (B,): (B, C, H, W)."""
        batch = torch.empty((len(index), *self.images.shape[1:]), dtype=self.images.dtype, pin_memory=self._pinned)
        # Several times as fast as images[...] where each image is this large.
        return torch.index_select(self.images, 0, self.rows[index], out=batch)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The same, as a tensor's."""
        assert dim == 0
        return self[index]

    def take(self, index: Tensor) -> "MappedImages":
        """Choose those at index (M,), without reading them."""
        return MappedImages(self.images, self.rows[index])

    @property
    def device(self) -> torch.device:
        """Where a batch of them is."""
        return self.images.device

    @property
    def nbytes(self) -> int:
        """Bytes that they would take in memory."""
        return len(self) * self.images[:1].nbytes

    def to(self, device: torch.device) -> Tensor:
        """Read all of them, to the device: (N, C, H, W)."""
        return torch.cat([self[part].to(device) for part in torch.arange(len(self)).split(_PART)])


Images = Tensor | MappedImages
