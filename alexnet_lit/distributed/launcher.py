"""Start a run on several devices of this machine: one process a rank, from the run's own config, whatever started it.

Lightning starts its ranks by running the parent's command line again. Under a Hydra sweep that line means the whole
sweep, so that a rank runs all of its jobs. Here a rank is told the one job's config and folder instead, through a store
that this process holds; what a rank finds in its environment is what torchrun would have put there.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.store import Failure, Store, first_failure, hold, ours
from alexnet_lit.terminal import hangup

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_GRACE = 8.0  # seconds that ranks have to end by themselves once one has failed, or a person has asked twice
_LOOK = 0.1


@dataclass(frozen=True)
class Ended:
    """How a launch ended. failure: what went wrong first, in which rank."""

    failure: Failure | None = None
    asked: bool = False  # to stop, by a signal


def launch(job: dict[str, Any], *, ranks: int, name: str) -> Ended:
    """Start `ranks` processes, which are told `job`, and wait for all of them. `name` is what `ps` shows beside them.

    A rank that dies takes the others down, and so does the end of this process, however it ends. Ctrl-C, SIGTERM,
    SIGHUP, SIGUSR1 and SIGUSR2 are handed on to the ranks, which finish their step and save.
    """
    store = hold()
    rank_group = ours(store)
    rank_group.set("job", json.dumps(job))
    command = [sys.executable, "-m", "alexnet_lit.app", name]
    with _signals() as received:
        processes = [
            subprocess.Popen(command, env=_environment(rank, ranks, store.port), process_group=0)
            for rank in range(ranks)
        ]
        try:
            _wait(processes, received, rank_group)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return Ended(first_failure(rank_group), bool(received))


def _wait(processes: list["subprocess.Popen[bytes]"], received: list[int], rank_group: Store) -> None:
    """Until all have ended, or have had their time to. Each signal is handed on once."""
    handed_on, deadline = 0, float("inf")
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        for number in received[handed_on:]:
            handed_on += 1
            for rank, process in enumerate(processes):  # one that still starts has nothing to save
                process.send_signal(number if rank_group.check([f"here/{rank}"]) else signal.SIGTERM)
        statuses = _look(processes, rank_group)
        if any(statuses) or sum(number in (signal.SIGINT, signal.SIGTERM) for number in received) > 1:
            deadline = min(deadline, time.monotonic() + _GRACE)
        time.sleep(_LOOK)
    _look(processes, rank_group)


def _look(processes: list["subprocess.Popen[bytes]"], rank_group: Store) -> list[int | None]:
    """The statuses of processes that have ended. Of one that has not told of its end, that is a failure."""
    statuses = [process.poll() for process in processes]
    for rank, status in enumerate(statuses):
        if status is not None and not rank_group.check([f"left/{rank}"]):
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
            first_failure(rank_group, Failure(rank, f"rank {rank} {how}", killed=status < 0))
    return statuses


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What a rank finds: its place, its share of the cores, and this package wherever it lies."""
    package = str(Path(__file__).resolve().parents[2])
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    place = {key: str(value) for key, value in numbers.items()}
    place |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True", "ALEXNET_LIT_LED": "1"}
    shares = {"OMP_NUM_THREADS": str(max(1, cores() // ranks))}
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**shares, **os.environ, "PYTHONPATH": paths, **place}


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that come in, in order, in place of what they do otherwise."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may listen to signals
        return
    numbers = (*HANDED_ON, *hangup())
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
