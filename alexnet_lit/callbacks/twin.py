"""A copy of a net that may be watched."""

import copy

from torch import nn


def twin(net: nn.Module) -> nn.Module:
    """Copy a net, all but its weights, which both then have: deepcopy takes what is in its memo for already copied.

    The copy's mode, buffers and hooks are its own, and it is not compiled.
    """
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})
