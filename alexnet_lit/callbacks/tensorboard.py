"""What TensorBoard is told of a run as a whole: its text, graph and chart layout, and its row in the table HParams."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.attr_value_pb2 import AttrValue  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined] # as above
from tensorboard.compat.proto.graph_pb2 import GraphDef  # type: ignore[attr-defined] # as above
from tensorboard.compat.proto.node_def_pb2 import NodeDef  # type: ignore[attr-defined] # as above
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # as above
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # type: ignore[attr-defined] # as above
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[attr-defined] # as above
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from torch import nn

from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.callbacks.summary import layers, trace
from alexnet_lit.terminal import plain

api: Any = api_pb2  # its names are made at import time

# Charts of the page Custom Scalars, a curve for each tag that matches, of each run that is ticked.
_CHARTS = {
    "Is it learning, is it overfitting, which run is better": {
        "accuracy": ["Multiline", ["train/acc$", "val/acc$", "test/acc$"]],
        "loss": ["Multiline", ["train/loss$", "val/loss$", "test/loss$"]],
        "best accuracy so far": ["Multiline", ["val/acc_best$"]],
    },
    "How it trains": {
        "learning rate": ["Multiline", ["lr$"]],
        "norm of the gradients, before clipping": ["Multiline", ["grad_norm$"]],
        "images per second": ["Multiline", ["images_per_second$"]],
    },
}

# Columns of HParams, by type; a group's is the name of its class. TensorBoard takes the columns of a table from any one
# of its runs, so all write these, be there a value or not, and what was typed beside them.
_COLUMNS: dict[type, str] = {
    str: "model model.design model.activation model.lrn_reduction model.init data data.tta optimizer scheduler "
    "model.compile trainer.precision callbacks",
    bool: "model.lrn model.overlapping_pool data.augment.mirror optimizer.nesterov",
    float: "model.dropout data.batch_size data.image_size data.train_size data.fold data.augment.crop "
    "data.augment.translate data.augment.color data.augment.erase data.augment.mixup data.augment.cutmix "
    "optimizer.lr optimizer.momentum optimizer.weight_decay seed trainer.max_epochs trainer.devices "
    "trainer.gradient_clip_val label_smoothing",
}
COLUMNS = {key: kind for kind, keys in _COLUMNS.items() for key in keys.split()}
# TensorBoard shows five columns at first, those that are said to differ: in a sweep what its folders are named after.
_FIRST = ("model.dropout", "model.lrn", "optimizer", "optimizer.lr", "trainer.precision")
METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")
_WATCHING = ("progress", "milestones", "board")  # callbacks that change nothing of the training
_NO_COLUMN = ("hydra", "paths", "ckpt", "name", "logger", "data.dir", *(f"callbacks.{name}" for name in _WATCHING))
_TYPES = {bool: api.DATA_TYPE_BOOL, float: api.DATA_TYPE_FLOAT64, str: api.DATA_TYPE_STRING}


@rank_zero_only
def log_run(
    loggers: Iterable[Logger], *, about: Mapping[str, Any], config: str, net: nn.Module, input_shape: tuple[int, ...]
) -> None:
    """Write what a run begins with to TensorBoard, if that is among the loggers: facts about it, its config as YAML,
    the net layer by layer for images of `input_shape` (channels, height, width) and as a graph, the layout of charts.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoard):
            writer = logger.experiment
            facts = (f"**{key}**\n```\n{value}\n```" for key, value in about.items() if value is not None)
            writer.add_text("run/about", "\n\n".join(facts), 0)
            writer.add_text("run/config", f"```yaml\n{config}\n```", 0)
            writer.add_text("run/net", f"```\n{plain(layers(net, input_shape))}\n```", 0)
            writer.add_custom_scalars(_CHARTS)
            graph = _graph(net, input_shape).SerializeToString()
            writer._get_file_writer().add_event(Event(graph_def=graph))
            logger.save()


def _graph(net: nn.Module, input_shape: tuple[int, ...]) -> GraphDef:
    """The layers in the order of the forward pass, each with its output's shape and its number of parameters.

    SummaryWriter.add_graph shows hundreds of operations, by `torch.jit.trace`, which is deprecated.
    """
    nodes = [NodeDef(name="images", op="Input", attr={"_output_shapes": _shapes((1, *input_shape))})]
    for call in trace(net, input_shape):
        attributes = {"_output_shapes": _shapes(call.shape)}
        if call.parameters:
            attributes["parameters"] = AttrValue(i=call.parameters)
        name, kind = call.name.replace(".", "/"), type(call.layer).__name__
        nodes.append(NodeDef(name=name, op=kind, input=[nodes[-1].name], attr=attributes))
    return GraphDef(node=nodes)


def _shapes(sizes: tuple[int, ...]) -> AttrValue:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
    return AttrValue(list=AttrValue.ListValue(shape=[shape]))


def log_hparams(loggers: Iterable[Logger], config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write the row of a run to TensorBoard, if that is among the loggers, unless it was interrupted: it may go on, and
    TensorBoard keeps the first row that it reads of a run. config: the run's, in plain values. result: of result.json.

    SummaryWriter.add_hparams would make a run beside the run, and leave out columns without a value.
    """
    if result["status"] == "interrupted":
        return
    for logger in loggers:
        if isinstance(logger, TensorBoard):
            logger.log_metrics({"seconds": result["seconds"]}, step=result["steps"])
            writer = logger.experiment._get_file_writer()
            for tag, content in _row(config, result, Path(logger.log_dir).name).items():
                about = metadata.create_summary_metadata(HParamsPluginData(**content))
                value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
                writer.add_summary(Summary(value=[value]), result["steps"])
            logger.save()


def _row(config: Mapping[str, Any], result: Mapping[str, Any], folder: str) -> dict[str, dict[str, Any]]:
    """The columns, the values in them, and how the run ended, by tag."""
    overrides = [override.lstrip("+").partition("=") for override in result["overrides"] if override[0] != "~"]
    typed = {key: text for key, _, text in overrides}
    more = {key: _kind(_value(config, key, text)) for key, text in typed.items() if not key.startswith(_NO_COLUMN)}
    kinds = more | COLUMNS
    start = SessionStartInfo()
    for key, kind in kinds.items():
        value = _value(config, key, typed.get(key))
        if kind is bool and isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif kind is float and isinstance(value, int | float):
            start.hparams[key].number_value = float(value)
        elif kind is str and value is not None:
            start.hparams[key].string_value = str(value).lower() if isinstance(value, bool) else str(value)
    differ = [key for key in typed if f"{key}-" in folder] or _FIRST
    columns = [api.HParamInfo(name=key, type=_TYPES[kind], differs=key in differ) for key, kind in kinds.items()]
    metrics = [api.MetricInfo(name=api.MetricName(tag=tag)) for tag in METRICS]
    status = api.STATUS_SUCCESS if result["status"] == "completed" else api.STATUS_FAILURE
    experiment = api.Experiment(hparam_infos=columns, metric_infos=metrics)
    return {
        metadata.EXPERIMENT_TAG: {"experiment": experiment},
        metadata.SESSION_START_INFO_TAG: {"session_start_info": start},
        metadata.SESSION_END_INFO_TAG: {"session_end_info": SessionEndInfo(status=status)},
    }


def _value(config: Mapping[str, Any], key: str, typed: str | None) -> Any:
    """What the config has at `key`: of a group the name of its class, of callbacks which ones; else what was typed."""
    if key == "callbacks":
        return ",".join(name for name in config[key] if name not in _WATCHING) or "none"
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return typed
        node = node[part]
    if isinstance(node, Mapping):
        return str(node.get("_target_", typed)).rpartition(".")[2]
    return str(node) if isinstance(node, list) else node


def _kind(value: Any) -> type:
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) and math.isfinite(value) else str
