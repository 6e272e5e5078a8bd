"""What TensorBoard shows of runs side by side: the layout of charts, and a run's row in the table HParams."""

from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[attr-defined] # as above
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)

api: Any = api_pb2  # its names are made at import time

# Charts of the page Custom Scalars, a curve for each tag that matches, of each run that is ticked.
CHARTS = {
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

# Columns of HParams, which TensorBoard shows in this order once they are said to differ; a group's is the name of its
# class. It takes the columns of a table from any one of its runs, so all write these, and what was typed beside them.
COLUMNS: dict[str, type] = {
    "model.dropout": float,
    "model.lrn": bool,
    "optimizer": str,
    "optimizer.lr": float,
    "trainer.precision": str,
    "model": str,
    "data.batch_size": float,
    "scheduler": str,
    "label_smoothing": float,
    "seed": float,
}
_FIRST = list(COLUMNS)[:5]  # as many are shown until asked for more
METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")
_NO_COLUMN = ("hydra", "paths", "ckpt", "name", "logger", "data.dir", "callbacks.progress", "callbacks.board")
_KINDS = {
    bool: (api.DATA_TYPE_BOOL, "bool_value"),
    float: (api.DATA_TYPE_FLOAT64, "number_value"),
    str: (api.DATA_TYPE_STRING, "string_value"),
}


def hparams_row(config: Any, result: Mapping[str, Any], folder: str) -> Summary:
    """The row of the run in `folder`: the columns, the values in them, and how it ended.

    config: the run's, in plain values. result: of result.json. SummaryWriter.add_hparams would make a run beside the
    run, and leave out columns without a value.
    """
    overrides = [override.lstrip("+").partition("=") for override in result["overrides"] if override[0] != "~"]
    typed = {key: text for key, _, text in overrides if not key.startswith(_NO_COLUMN)}
    differ = [key for key in typed if f"{key}-" in folder] or _FIRST  # a job's folder is named after what is swept
    start, columns = SessionStartInfo(), []
    for key in COLUMNS | typed:
        value = _value(config, key)
        value = typed.get(key) if value is None else value
        kind = COLUMNS.get(key) or _kind(value)
        column, field = _KINDS[kind]
        if value is not None and kind in (str, _kind(value)):
            setattr(start.hparams[key], field, kind(value))
        columns.append(api.HParamInfo(name=key, type=column, differs=key in differ))
    metrics = [api.MetricInfo(name=api.MetricName(tag=tag)) for tag in METRICS]
    status = api.STATUS_SUCCESS if result["status"] == "completed" else api.STATUS_FAILURE
    experiment = api.Experiment(hparam_infos=columns, metric_infos=metrics)
    contents = {
        metadata.EXPERIMENT_TAG: HParamsPluginData(experiment=experiment),
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=status)),
    }
    about = {tag: metadata.create_summary_metadata(content) for tag, content in contents.items()}
    return Summary(
        value=[Summary.Value(tag=tag, metadata=each, tensor=metadata.NULL_TENSOR) for tag, each in about.items()]
    )


def _value(config: Mapping[str, Any], key: str) -> Any:
    """What the config has at `key`: of a group the name of its class, of callbacks theirs; None where there is none."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping):
        return str(node["_target_"]).rpartition(".")[2] if "_target_" in node else ",".join(node)
    return node


def _kind(value: Any) -> type:
    return type(value) if isinstance(value, bool) else float if isinstance(value, int | float) else str
