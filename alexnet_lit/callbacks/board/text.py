"""What a run is, in words, on TensorBoard's page Text; and the net on its page Graphs."""

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torch.utils.tensorboard.summary import text

from alexnet_lit.callbacks.board.graph import graph
from alexnet_lit.callbacks.board.layout import layout
from alexnet_lit.callbacks.summary import layers
from alexnet_lit.callbacks.tensorboard import TensorBoard
from alexnet_lit.terminal import plain


@rank_zero_only
def introduce(
    loggers: Iterable[Logger], *, about: Mapping[str, Any], config: str, net: nn.Module, input_shape: tuple[int, ...]
) -> None:
    """Write what a run begins with to TensorBoard, if that is among the loggers: facts about it, its config as YAML,
    the net layer by layer for images of `input_shape` (channels, height, width) and as a graph, the layout of charts.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoard):
            facts = (f"**{key}**\n```\n{value}\n```" for key, value in about.items() if value is not None)
            logger.add(text("run/about", "\n\n".join(facts)), 0)
            logger.add(text("run/config", f"```yaml\n{config}\n```"), 0)
            logger.add(text("run/net", f"```\n{plain(layers(net, input_shape))}\n```"), 0)
            logger.add(layout(), 0)
            logger.add_graph(graph(net, input_shape))
            logger.save()
