"""Start a run on several devices: one process a rank, from the run's own config, whatever started the run.

Lightning starts its ranks by running the parent's command line again. Under a Hydra sweep that line means the whole
sweep, so that a rank runs all of its jobs. Here a rank is given the one job's config and folder instead; torch's
elastic agent (the library behind torchrun) starts, watches and stops the processes, and chooses a free port.
"""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from alexnet_lit.distributed.devices import cores


def is_rank() -> bool:
    """Whether this process is one rank of several, started here or by torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's rank: 0 where there is only one."""
    return int(os.environ.get("RANK", 0)) if is_rank() else 0


def leave() -> None:
    """End this rank's part in the process group, so that no thread of it outlives the run."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def launch(arguments: Sequence[str], *, ranks: int) -> int:
    """Run `python <arguments>` in `ranks` processes, and wait for all of them.

    A rank that dies takes the others down. Ctrl-C, SIGTERM and SIGUSR1 are handed on to the ranks, which finish their
    step and save. Returns the exit status: 0, that of the first rank that failed, or 128 + signal.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # the agent asks the system for a free port
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.2,
        signals_to_handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
    )
    with _environment(ranks), _quiet_agent():
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except ChildFailedError as failed:
            _, first = failed.get_first_failure()
            return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
        except SignalException as stopped:
            return 128 + int(signal.Signals(stopped.sigval))
    return 0


@contextmanager
def _environment(ranks: int) -> Iterator[None]:
    """Share the cores out, let ranks import this package from wherever it lies, and leave no trace afterwards."""
    before = dict(os.environ)
    package = str(Path(__file__).resolve().parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [before.get("PYTHONPATH")])])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // ranks)))
    try:
        yield
    finally:
        for key in os.environ.keys() - before.keys():  # the agent adds variables of its own
            del os.environ[key]
        os.environ.update(before)


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """A failed rank shows its own traceback; the agent's report of it would say the same again."""
    logger = logging.getLogger("torch.distributed.elastic")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
