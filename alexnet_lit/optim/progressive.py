"""Small images first: a step on them costs less."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alexnet_lit.errors import Mistake


class ProgressiveResizing(Callback):
    """Trains on images of `size` px for the first `share` of the steps, and on whole ones for the rest.

    The net is built for images of `image_size` px. Of smaller ones its last map is smaller too, and is enlarged for
    the linear layers, both bilinearly: (B, 256, 2, 2) -> (B, 256, 5, 5) for the course's AlexNet at 128 px. Validation
    and test have images of the full size. Which size a step has hangs on its number and the length of the run alone,
    so a resumed run goes on as it would have.
    Source: Howard and Gugger 2020, "Deep Learning for Coders", chapter 7; in more stages: Tan and Le 2021.
    Raises: ValueError if `size` is not below `image_size`; Mistake, as training starts, if the net can't take it.
    """

    whole_net = True  # a device that holds some channels of a map would have to enlarge these alone

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=1)],
        share: Annotated[float, Field(ge=0, le=1)],
        image_size: int,
    ) -> None:
        if size >= image_size:
            raise ValueError(f"size={size}: should be less than data.image_size={image_size}")
        self.size = size
        self.share = share
        self.image_size = image_size
        self._until = 0.0  # the step from which images are whole; inf in a run without an end
        self._small = False  # are images of this step?
        self._map = 0  # px that the linear layers take
        self._hooks: list[RemovableHandle] = []

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Have the net shrink images and enlarge maps."""
        net, way_out = module.net, "use a larger size, or callbacks=default"
        if not isinstance(getattr(net, "features", None), nn.Module):
            raise Mistake(f"callbacks.progressive: {type(net).__name__} has no features whose map could be enlarged")
        self._map = _map_size(module, self.image_size)
        try:
            _map_size(module, self.size)
        except RuntimeError as error:
            raise Mistake(
                f"callbacks.progressive.size={self.size}: nothing is left of so small an image: {way_out}"
            ) from error
        self._hooks = [net.register_forward_pre_hook(self._shrink), net.features.register_forward_hook(self._enlarge)]

    def light_steps(self, trainer: Trainer) -> tuple[float, float]:
        """How many steps have small images, and what one is of a later step: about as much as it has of the px."""
        until = self.share * trainer.estimated_stepping_batches if self.share else 0.0
        return until, (self.size / self.image_size) ** 2

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Find out how long the run is."""
        self._until, _ = self.light_steps(trainer)

    def on_train_batch_start(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Choose the size of this step's images."""
        self._small = trainer.global_step < self._until

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Leave the net as it was."""
        for hook in self._hooks:
            hook.remove()

    def _shrink(self, net: nn.Module, arguments: tuple[Tensor]) -> Tensor | None:
        small = self._small and net.training
        return F.interpolate(arguments[0], size=self.size, mode="bilinear", antialias=True) if small else None

    def _enlarge(self, features: nn.Module, arguments: tuple[Tensor], x: Tensor) -> Tensor | None:
        return F.interpolate(x, size=self._map, mode="bilinear") if x.shape[-1] != self._map else None


@torch.no_grad()
def _map_size(module: Any, size: int) -> int:
    """Height and width of the last map of an image of `size` px."""
    weight = next(module.net.parameters())
    return int(module.net.features(weight.new_zeros(1, module.channels, size, size)).shape[-1])
