"""The gradients of a step: how long they are, and that they are clipped."""

from lightning import LightningModule
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer


def clip(module: LightningModule, optimizer: Optimizer, most: float | None, algorithm: str | None) -> Tensor | None:
    """Clip the gradients by their norm or by value; the norm of all of them before, which waits for no device.

    For fused optimizers too, which Lightning refuses under mixed precision, as the factor of a gradient scaler would
    still be in the gradients (None then); where there is no scaler (bf16-mixed), nothing stands against it.
    """
    plugin = module.trainer.precision_plugin
    if getattr(plugin, "scaler", None) and getattr(optimizer, "_step_supports_amp_scaling", False):
        module.clip_gradients(optimizer, most, algorithm)
        return None
    parameters = [each for each in plugin.main_params(optimizer) if each.grad is not None]
    # Where several devices hold the net together, the strategy knows of the other parts.
    norm: Tensor = getattr(module.trainer.strategy, "total_norm", total_norm)(parameters)
    if most and algorithm == GradClipAlgorithmType.VALUE:
        clip_grad_value_(parameters, most)
    elif most and not (norm.device.type == "cpu" and norm + 1e-6 <= most):
        clip_grads_with_norm_(parameters, most, norm)  # which multiplies all of them, by 1 where they are short
    return norm


def total_norm(parameters: list[nn.Parameter]) -> Tensor:
    """The norm of all their gradients together."""
    return get_total_norm([each.grad for each in parameters if each.grad is not None])
