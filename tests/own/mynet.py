"""A net of one's own."""

from torch import Tensor, nn


class Tiny(nn.Module):
    """Two convolutions and a linear layer: images (B, C, S, S) -> logits (B, num_classes)."""

    def __init__(self, *, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(in_channels, width, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        )
        self.head = nn.Linear(32 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify."""
        logits: Tensor = self.head(self.body(images))
        return logits
