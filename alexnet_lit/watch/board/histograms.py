"""How weights and gradients are distributed."""

from collections.abc import Iterator

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch import Tensor, nn
from torch.utils.tensorboard.summary import histogram

_MOST = 2**16


def histograms(net: nn.Module) -> Iterator[Summary]:
    """A histogram of each parameter, and of its gradient where there is one: that of the last step, clipped. Of more
    than 65,536 values so many are looked at, evenly picked.
    """
    for name, parameter in net.named_parameters():
        for kind, values in (("weights", parameter), ("gradients", parameter.grad)):
            if values is not None:
                yield histogram(f"{kind}/{name}", _some(values).numpy(), bins="tensorflow", max_bins=64)


def _some(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    return flat[:: -(-len(flat) // _MOST)].float().cpu()
