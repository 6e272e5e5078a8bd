"""What TensorBoard shows of a run as a whole: its text and chart layout, and its row in the table HParams."""

from collections.abc import Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (  # type: ignore[attr-defined] # as above
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from torch.utils.tensorboard import SummaryWriter

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
_TYPES = {bool: api.DATA_TYPE_BOOL, float: api.DATA_TYPE_FLOAT64, str: api.DATA_TYPE_STRING}
_FIELDS = {bool: "bool_value", float: "number_value", str: "string_value"}


def write_start(writer: SummaryWriter, *, about: Mapping[str, Any], config: str, net: str) -> None:
    """Write what a run begins with: facts about it, its config as YAML, its net's table, the layout of charts."""
    facts = (f"**{key}**\n```\n{value}\n```" for key, value in about.items() if value is not None)
    writer.add_text("run/about", "\n\n".join(facts), 0)
    writer.add_text("run/config", f"```yaml\n{config}\n```", 0)
    writer.add_text("run/net", f"```\n{net}\n```", 0)
    writer.add_custom_scalars(_CHARTS)


def write_hparams(writer: SummaryWriter, config: Mapping[str, Any], result: Mapping[str, Any], folder: str) -> None:
    """Write the row of the run in `folder`. config: the run's, in plain values. result: of result.json.

    SummaryWriter.add_hparams would make a run beside the run, and leave out columns without a value.
    """
    for tag, content in _row(config, result, folder).items():
        about = metadata.create_summary_metadata(HParamsPluginData(**content))
        value = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
        writer._get_file_writer().add_summary(Summary(value=[value]), result["steps"])


def _row(config: Mapping[str, Any], result: Mapping[str, Any], folder: str) -> dict[str, dict[str, Any]]:
    """The columns, the values in them, and how the run ended, by tag."""
    overrides = [override.lstrip("+").partition("=") for override in result["overrides"] if override[0] != "~"]
    typed = {key: text for key, _, text in overrides if not key.startswith(_NO_COLUMN)}
    values = {key: _value(config, key) for key in COLUMNS}
    values |= {key: text if (value := _value(config, key)) is None else value for key, text in typed.items()}
    kinds = {key: COLUMNS.get(key) or _kind(value) for key, value in values.items()}
    start = SessionStartInfo()
    for key, kind in kinds.items():
        if values[key] is not None and kind in (str, _kind(values[key])):
            setattr(start.hparams[key], _FIELDS[kind], kind(values[key]))
    differ = [key for key in typed if f"{key}-" in folder] or _FIRST  # a job's folder is named after what is swept
    columns = [api.HParamInfo(name=key, type=_TYPES[kind], differs=key in differ) for key, kind in kinds.items()]
    metrics = [api.MetricInfo(name=api.MetricName(tag=tag)) for tag in METRICS]
    status = api.STATUS_SUCCESS if result["status"] == "completed" else api.STATUS_FAILURE
    experiment = api.Experiment(hparam_infos=columns, metric_infos=metrics)
    return {
        metadata.EXPERIMENT_TAG: {"experiment": experiment},
        metadata.SESSION_START_INFO_TAG: {"session_start_info": start},
        metadata.SESSION_END_INFO_TAG: {"session_end_info": SessionEndInfo(status=status)},
    }


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
