"""TensorBoard's event file, straight in the run folder."""

import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.graph_pb2 import GraphDef  # type: ignore[attr-defined] # as well
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # as well
from torch.utils.tensorboard import SummaryWriter

from alexnet_lit.terminal import Lasting, warn_unwritten


class TensorBoard(TensorBoardLogger):
    """Lightning's logger without its folder `version_0`, its hparams.yaml, and its curves "epoch" and "hp_metric".

    One event file per process and run: fit and test write to the same. A resumed run adds a second file to the folder,
    which TensorBoard joins to one curve; `rewind` hides what is to be measured again.
    """

    def __init__(self, *, run_dir: str) -> None:
        super().__init__(save_dir=run_dir, name="", version="", default_hp_metric=False, flush_secs=10)
        self._close: weakref.finalize[[], Any] | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer. Its thread ends with this logger or the process, even if nobody calls `close`."""
        writer: SummaryWriter = super().experiment
        if self._close is None:
            self._close = weakref.finalize(self, writer.close)
            # Its thread would die of a full disk, with a traceback, and the run of its next point.
            events = writer._get_file_writer().event_writer
            records = events._async_writer._writer
            records._writer = Lasting(records._writer, partial(warn_unwritten, Path(events._file_name)))
        return writer

    @property
    def log_dir(self) -> str:
        """The run folder: TensorBoard names a run after the folder that its events lie in."""
        return self._root_dir

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the values, all but the "epoch" that Lightning adds to them."""
        super().log_metrics({tag: value for tag, value in metrics.items() if tag != "epoch"}, step)

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Hide all points from that step on that were written so far. TensorBoard calls it a restart of the session."""
        restart = SessionLog(status=SessionLog.START)
        self.experiment._get_file_writer().add_event(Event(session_log=restart), step=step)

    @rank_zero_only
    def add(self, summary: Summary, step: int) -> None:
        """Write what is neither a scalar nor a picture: a plugin's own."""
        self.experiment._get_file_writer().add_summary(summary, step)

    @rank_zero_only
    def add_graph(self, graph: GraphDef) -> None:
        """Write what the page Graphs shows."""
        self.experiment._get_file_writer().add_event(Event(graph_def=graph.SerializeToString()))

    @rank_zero_only
    def save(self) -> None:
        """Bring what was logged to disk. Lightning calls this after each logged step, so curves show live."""
        if self._experiment is not None:
            self._experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush, but stay open: fit and test both end here, and a closed writer would start a second event file."""
        self.save()

    @rank_zero_only
    def close(self) -> None:
        """End the run's event file. What is logged later would start another."""
        if self._close is not None:
            self._close()
