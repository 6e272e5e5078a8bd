"""How weights and gradients are distributed."""

from collections.abc import Iterator, Mapping

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch import Tensor, nn
from torch.utils.tensorboard.summary import histogram

_MOST = 2**16


def histograms(net: nn.Module, gradients: Mapping[str, Tensor]) -> Iterator[Summary]:
    """A histogram of each parameter, and of its gradient by the same name. Of more than 65,536 values so many are
    looked at, evenly picked.
    """
    weights = dict(net.named_parameters())
    for kind, tensors in (("weights", weights), ("gradients", gradients)):
        for name, values in tensors.items():
            if len(some := _some(values)):
                yield histogram(f"{kind}/{name}", some.numpy(), bins=64)


def _some(values: Tensor) -> Tensor:
    flat = values.detach().flatten()
    some = flat[:: -(-len(flat) // _MOST)].float().cpu()
    return some[some.isfinite()]  # under a gradient scaler a step may overflow, and is left out then
