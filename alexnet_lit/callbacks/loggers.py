"""Loggers of scalars: a run's curves in memory, in TensorBoard's event file, in metrics.csv."""

import csv
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped] # it ships no types
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # as above
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[attr-defined] # as above
from torch.utils.tensorboard import SummaryWriter

from alexnet_lit.errors import replacing, writing
from alexnet_lit.terminal import TolerantStream, warn_unwritten

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
_FIRST = list(COLUMNS)[:5]  # columns that are shown until more are asked for
METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")
_NO_COLUMN = ("hydra", "paths", "ckpt", "name", "logger", "data.dir", "callbacks.progress", "callbacks.board")
_KINDS = {bool: "DATA_TYPE_BOOL", float: "DATA_TYPE_FLOAT64", str: "DATA_TYPE_STRING"}


class _ScalarLogger(Logger):
    """Base of loggers without a folder of their own; hyper-parameters are in .hydra/config.yaml."""

    name = version = ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Ignored."""


class History(_ScalarLogger, Callback):
    """All scalars of a run in memory, whatever its other logger, and in its checkpoints. Filled on rank 0.

    A value logged again for a step replaces the earlier one, so a resumed run overwrites what it repeats. On resume,
    points that TensorBoard and metrics.csv have from the checkpoint's step on are void, and those of the checkpoint for
    that step are logged again.
    """

    state_key = "CurvesPlot"  # in checkpoints

    def __init__(self) -> None:
        super().__init__()
        self._curves: dict[str, dict[int, float]] = {}
        self._resumed_at: int | None = None  # global step of the checkpoint

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """The trainer's history; an empty one where there is none (`fast_dev_run` removes every logger)."""
        return next((logger for logger in trainer.loggers if isinstance(logger, cls)), cls())

    @property
    def points(self) -> dict[str, list[tuple[int, float]]]:
        """(global step, value) pairs by tag ("train/loss"), as plain values that a checkpoint can hold."""
        return {tag: list(curve.items()) for tag, curve in self._curves.items()}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for tag, value in metrics.items():
            self._curves.setdefault(tag, {})[step or 0] = float(value)

    def latest(self, tag: str) -> float | None:
        return next(reversed(self._curves.get(tag, {}).values()), None)

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._curves = {tag: dict(curve) for tag, curve in state_dict["points"].items()}

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Flush the loggers: a kill then loses no point that a resumed run doesn't repeat."""
        for logger in trainer.loggers:
            logger.save()

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed_at = checkpoint["global_step"]

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        step, self._resumed_at = self._resumed_at, None
        if step is not None:
            here = {tag: curve[step] for tag, curve in self._curves.items() if step in curve}
            for logger in trainer.loggers:
                if isinstance(logger, CSV | TensorBoard):
                    logger.rewind(step)
                    logger.log_metrics(here, step=step)


class CSV(_ScalarLogger):
    """Appends to metrics.csv in the run folder, a line a value: step, tag, value.

    Lightning's CSVLogger rewrites the whole file at each save, and deletes it when a run is resumed.
    """

    def __init__(self, *, run_dir: str) -> None:
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append the values. Raises: UserError where the disk refuses."""
        with writing(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            if file.tell() == 0:
                rows.writerow(("step", "tag", "value"))
            rows.writerows((step or 0, tag, float(value)) for tag, value in metrics.items())

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Remove the lines from that step on, and a last one that a kill cut short."""
        if self.path.exists():
            lines = self.path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines[1:] if line.endswith(b"\n") and int(line.partition(b",")[0]) < step]
            with replacing(self.path) as part:
                part.write_bytes(b"".join([*lines[:1], *kept]))


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, with its event file straight in the run folder, which names the run in TensorBoard.

    Fit and test write to one file; a resumed run adds a second one, which TensorBoard joins to the first.
    """

    def __init__(self, *, run_dir: str) -> None:
        super().__init__(save_dir=run_dir, name="", version="", default_hp_metric=False, flush_secs=10)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer. Its thread ends with this logger or the process."""
        is_new = self._experiment is None
        writer: SummaryWriter = super().experiment
        if is_new:
            weakref.finalize(self, writer.close)
            # A full disk would end the writer's thread with a traceback, and the run at its next point.
            events = writer._get_file_writer().event_writer
            records = events._async_writer._writer
            records._writer = TolerantStream(records._writer, partial(warn_unwritten, Path(events._file_name)))
        return writer

    @property
    def log_dir(self) -> str:
        """The run folder, taken literally."""
        return self._root_dir

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Hide all points from that step on, as SummaryWriter's `purge_step` does: Lightning makes the writer before it
        reads the checkpoint that knows the step.
        """
        self.experiment._get_file_writer().add_event(Event(session_log=SessionLog(status=SessionLog.START)), step=step)

    @rank_zero_only
    def begin(self, *, about: Mapping[str, Any], config: str, net: str) -> None:
        """Write what a run begins with: facts about it, its config as YAML, its net's table, the layout of charts."""
        facts = (f"**{key}**\n```\n{value}\n```" for key, value in about.items() if value is not None)
        self.experiment.add_text("run/about", "\n\n".join(facts), 0)
        self.experiment.add_text("run/config", f"```yaml\n{config}\n```", 0)
        self.experiment.add_text("run/net", f"```\n{net}\n```", 0)
        self.experiment.add_custom_scalars(_CHARTS)
        self.save()

    @rank_zero_only
    def end(self, result: Mapping[str, Any]) -> None:
        """Write the run's row of HParams, unless it may be resumed: TensorBoard keeps the first row that it reads."""
        if result["status"] == "interrupted":
            return
        self.log_metrics({"seconds": result["seconds"]}, step=result["steps"])
        row = _hparams_row(self.hparams, result, Path(self.log_dir).name)
        self.experiment._get_file_writer().add_summary(row, result["steps"])
        self.save()

    @rank_zero_only
    def save(self) -> None:
        """Flush, after each logged step: curves show live."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush, but stay open: a closed writer would start a second event file for the test."""
        self.save()


def _hparams_row(config: Any, result: Mapping[str, Any], folder: str) -> Summary:
    """The row of the run in `folder`: the columns, the values in them, and how it ended.

    config: the run's, in plain values. result: of result.json. SummaryWriter.add_hparams would make a run beside the
    run, and leave out columns without a value.
    """
    overrides = [override.lstrip("+").partition("=") for override in result["overrides"] if override[0] != "~"]
    typed = {key: text for key, _, text in overrides if not key.startswith(_NO_COLUMN)}
    differ = [key for key in typed if f"{key}-" in folder] or _FIRST  # a job's folder is named after what is swept
    values, columns = {}, []
    for key in COLUMNS | typed:
        value = _value(config, key)
        value = typed.get(key) if value is None else value
        kind = COLUMNS.get(key) or _kind(value)
        if value is not None and kind in (str, _kind(value)):
            values[key] = kind(value)
        columns.append({"name": key, "type": _KINDS[kind], "differs": key in differ})
    metrics = [{"name": {"tag": tag}} for tag in METRICS]
    status = "STATUS_SUCCESS" if result["status"] == "completed" else "STATUS_FAILURE"
    contents: dict[str, Any] = {
        metadata.EXPERIMENT_TAG: {"experiment": {"hparam_infos": columns, "metric_infos": metrics}},
        metadata.SESSION_START_INFO_TAG: {"session_start_info": {"hparams": values}},
        metadata.SESSION_END_INFO_TAG: {"session_end_info": {"status": status}},
    }
    row = Summary()
    for tag, content in contents.items():
        about = metadata.create_summary_metadata(ParseDict(content, HParamsPluginData()))
        row.value.add(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
    return row


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
