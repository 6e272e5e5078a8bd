"""TensorBoard's table of runs, HParams: a row for each run that came to an end, with what it was told and what it gave.

Lightning would write a score of -1 when a run starts, and torch puts each row into a folder of its own, a run beside
the run. Here the table's entries go straight into the run's event file, once there is something to tell.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (  # type: ignore[attr-defined] # made at import time too
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[attr-defined] # made at import time too
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

from alexnet_lit.callbacks.tensorboard import TensorBoard

# What experimenters vary, by the type of its column. TensorBoard takes the columns of a table from any one of its runs:
# all write these, be there a value or not, and what was typed beside. Of a group its class stands for it, as in SGD.
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
# TensorBoard shows five columns at first: those said to differ, by name, then the others. Of a run that stands alone
# nobody knows in what the next one will differ.
_FIRST = ("model.dropout", "model.lrn", "optimizer", "optimizer.lr", "trainer.precision")
METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")
_ONLOOKERS = ("callbacks.progress", "callbacks.milestones", "callbacks.board", "logger")
_NO_COLUMN = ("hydra", "paths", "ckpt", "name", *_ONLOOKERS, "data.dir", "data.search", "data.mirrors")
_TYPES = {bool: DATA_TYPE_BOOL, float: DATA_TYPE_FLOAT64, str: DATA_TYPE_STRING}


def log_hparams(loggers: Iterable[Logger], config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write the row of a run that completed, diverged or failed to TensorBoard, if that is among the loggers.

    config: the run's, in plain values. result: what result.json holds. A run that was interrupted may go on, and
    TensorBoard keeps the first row that it reads of a run: it has none before its end.
    """
    if result["status"] == "interrupted":
        return
    for logger in loggers:
        if isinstance(logger, TensorBoard):
            logger.log_metrics({"seconds": result["seconds"]}, step=result["steps"])
            for tag, content in _row(config, result, Path(logger.log_dir).name).items():
                logger.add(_summary(tag, content), result["steps"])
            logger.save()


def _row(config: Mapping[str, Any], result: Mapping[str, Any], folder: str) -> dict[str, HParamsPluginData]:
    """The columns, the values in them, and how the run ended.

    TensorBoard first shows the columns that are said to differ: the keys that a sweep names its folders after, else
    what is varied most often.
    """
    typed = dict(_split(override) for override in result["overrides"] if not override.startswith("~"))
    more = {key: _value(config, key, text) for key, text in typed.items() if not key.startswith(_NO_COLUMN)}
    kinds = {**{key: _kind(value) for key, value in more.items()}, **COLUMNS}
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
    columns = [HParamInfo(name=key, type=_TYPES[kind], differs=key in differ) for key, kind in kinds.items()]
    metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in METRICS]
    status = STATUS_SUCCESS if result["status"] == "completed" else STATUS_FAILURE
    return {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=Experiment(hparam_infos=columns, metric_infos=metrics)),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=status)),
    }


def _split(override: str) -> tuple[str, str]:
    key, _, text = override.lstrip("+~").partition("=")
    return key, text


def _value(config: Mapping[str, Any], key: str, typed: str | None) -> Any:
    """What the config has at `key`: of a group the name of its class, of callbacks which ones; else what was typed."""
    if key == "callbacks":
        return ",".join(name for name in config[key] if f"{key}.{name}" not in _ONLOOKERS) or "none"
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


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    about = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
