"""The ranks of a run: start them, coordinate them over a TCPStore, and end them together.

torch's elastic agent kills ranks 30 s after a signal, and its ranks outlive it. Lightning's launcher runs the command
line again in each rank, which under a Hydra sweep means the whole sweep. Here a rank receives the config and the folder
of one run through the store; its environment variables are torchrun's.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined] # its types don't say so

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.errors import Exited, UserError, reason_of
from alexnet_lit.terminal import STOP_SIGNALS, handling, hangup

# A process group for each rank. Windows has none: its console sends Ctrl-C to the ranks itself.
_OWN_GROUP = 0 if os.name == "posix" else None
_START = timedelta(minutes=5)  # for all ranks to start
_START_CHILD = timedelta(seconds=30)  # for a rank that `launch` started to connect: the store is up already
_LONG = timedelta(days=7)  # other ranks may have to download the data, or to finish a validation
_REPORT = timedelta(seconds=3)  # for a rank that lost its connection to learn why
# Seconds.
_POLL = 1.0  # between a rank's looks at whether another has failed
_GRACE = 4.0  # for a rank to end by itself once another has failed
_LAUNCHER_GRACE = 8.0  # for all ranks, once one has failed or a second signal has come


class Failure(NamedTuple):
    """The rank that failed first, and why in one line.

    mistake: a UserError. killed: the rank was killed or lost. reporter: the rank that reports it; None: the launcher.
    """

    rank: int
    reason: str
    mistake: bool = False
    killed: bool = False
    reporter: int | None = None


class RankGroup:
    """Coordinates the ranks of a run over a TCPStore: broadcast the config, barrier, abort.

    The store belongs to torchrun or `launch`, else to rank 0. A thread polls it: once a rank has failed or the store is
    gone, this rank ends too, whatever it waits for.
    """

    def __init__(self, environment: RankEnvironment) -> None:
        self.rank, self.ranks = environment.rank, environment.ranks
        self._where = f"on {socket.gethostname()}: " if environment.nodes > 1 else ""
        # Called before this rank exits because another failed.
        self.on_abort: Callable[[Failure], object] = lambda failure: None
        store = _connect(environment)
        self._store = _namespace(store)
        self._store.set(f"here/{self.rank}", "")
        self._over = threading.Event()
        # Clones the store, as a connection serves one thread at a time.
        self._watcher = threading.Thread(target=self._watch, args=(_namespace(store.clone()),), daemon=True)
        self._watcher.start()

    def broadcast(self, job: dict[str, Any]) -> None:
        """Send a message (config, folder, start) from rank 0 to all ranks, as JSON."""
        self._store.set("job", json.dumps(job))

    def receive(self) -> dict[str, Any]:
        """The message that rank 0 sends. Raises: SystemExit with rank 0's status if it has ended without one."""
        self._wait(["job"])
        job: dict[str, Any] = json.loads(self._store.get("job"))
        if "status" in job:
            self._end(job["status"])
        return job

    def barrier(self, mistake: UserError | None = None) -> None:
        """Wait until every rank is ready for the job; `mistake` is why this one is not.

        Raises: UserError on rank 0, SystemExit on the others, if any of them is not.
        """
        self._store.set(f"ready/{self.rank}", f"{self._where}{mistake}" if mistake else "")
        if self.rank == 0:
            try:
                self._store.wait([f"here/{rank}" for rank in range(self.ranks)], _START)
            except dist.DistStoreError as error:
                where = os.environ["MASTER_ADDR"]
                raise UserError(f"not all of {self.ranks} ranks came to {where}: start all of them") from error
        keys = [f"ready/{rank}" for rank in range(self.ranks)]
        self._wait(keys)
        mistakes = [text for key in keys if (text := self._store.get(key).decode())]
        if mistakes and self.rank == 0:
            raise UserError(mistakes[0])
        if mistakes:
            self._end(2)

    def fail(self, error: BaseException) -> Failure:
        """Make all ranks end. Returns what failed first, of which `error` may be a consequence. Can be called again."""
        rank, mistake = self.rank, isinstance(error, UserError)
        prefix = "" if mistake else f"rank {rank} " if isinstance(error, Exited) else f"rank {rank}: "
        mine = Failure(rank, prefix + reason_of(error), mistake=mistake, reporter=rank)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to all ranks once one has ended
        try:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                mine = self._find_lost_rank() or mine  # a lost connection is a consequence
            first = _first_failure(self._store, mine) or mine
        except dist.DistError:
            first = self._store_owner_lost()
            self.on_abort(first)
        self._over.set()
        return first

    def leave(self, status: int) -> None:
        """End this rank: the others wait until rank 0 has written everything; the store's owner goes last."""
        failed = self._over.is_set()
        if not failed and dist.is_initialized():
            dist.destroy_process_group()
        try:
            if self.rank == 0:
                self._store.compare_set("job", "", json.dumps({"status": status}))  # unless a message was sent
                self._store.set("over", "")
            elif not failed:
                self._store.wait(["over"], timedelta(hours=1))
            self._store.set(f"left/{self.rank}", "")
            if self.rank == 0 and not _launcher_holds_store():
                self._store.wait([f"left/{rank}" for rank in range(self.ranks)], timedelta(seconds=_GRACE + 2 * _POLL))
        except dist.DistError:
            pass  # the other ranks, or the store's owner, have gone already
        self._over.set()
        self._watcher.join()

    def _end(self, status: int) -> NoReturn:
        self._over.set()
        sys.exit(status)

    def _wait(self, keys: list[str]) -> None:
        try:
            self._store.wait(keys, _LONG)
        except dist.DistError:
            self._end(1)

    def _store_owner_lost(self) -> Failure:
        if _launcher_holds_store():
            return Failure(0, "the process that led it was killed", killed=True)
        return self._lost(0)

    def _lost(self, rank: int) -> Failure:
        reason = f"rank {rank} was lost: killed, or ended without a report"
        return Failure(rank, reason, killed=True, reporter=self.rank)

    def _find_lost_rank(self) -> Failure | None:
        """The failure that another rank or the launcher reports within `_REPORT`; else a rank that no longer polls."""
        before = self._polls()
        with suppress(dist.DistStoreError):  # the time is over
            self._store.wait(["failed"], _REPORT)
        if failure := _first_failure(self._store):
            return failure
        lost = [rank for rank, polls in enumerate(self._polls()) if polls == before[rank] and rank != self.rank]
        return self._lost(lost[0]) if lost else None

    def _polls(self) -> list[int]:
        return [self._store.add(f"polls/{rank}", 0) for rank in range(self.ranks)]

    def _watch(self, store: Store) -> None:
        failure, grace = None, _GRACE
        while not failure and not self._over.wait(_POLL):
            try:
                store.add(f"polls/{self.rank}", 1)
                failure = _first_failure(store)
            except dist.DistError:
                failure, grace = self._store_owner_lost(), 0.0
        if failure and not self._over.wait(grace):
            # The main thread waits for a rank that will never answer.
            try:
                self.on_abort(failure)
            finally:
                os._exit(2 if failure.mistake else 1)


@functools.cache
def join() -> RankGroup | None:
    """This process's rank group; None for a process without other ranks. Raises: UserError if they can't be found."""
    environment = rank_environment()
    if environment.ranks == 1:
        return None
    os.environ |= {"MASTER_ADDR": environment.address, "MASTER_PORT": str(environment.port)}  # torch asks for them
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(os.environ.get("SLURM_CPUS_PER_TASK") or max(1, cores() // environment.local_ranks)))
    return RankGroup(environment)


def _connect(environment: RankEnvironment) -> TCPStore:
    """The store of this run, which rank 0 opens unless the launcher has. Raises: UserError."""
    opens = environment.rank == 0 and not _launcher_holds_store()
    try:
        # Multi-tenant: torch.distributed opens a store at the same endpoint when training starts.
        options = {"is_master": opens, "multi_tenant": opens, "wait_for_workers": False}
        timeout = _START_CHILD if environment.is_child else _START
        store = TCPStore(environment.address, environment.port, timeout=timeout, **options)
    except dist.DistError as error:
        reason = "rank 0 is not there: start all ranks where they can reach each other"
        if opens:
            reason = "can't be opened: set MASTER_PORT to another one for all processes"
        where = f"MASTER_ADDR={environment.address} MASTER_PORT={environment.port}"
        raise UserError(f"{where}: {reason} ({str(error).splitlines()[0]})") from error
    store.set_timeout(_LONG)
    return store


def _launcher_holds_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _namespace(store: Store) -> Store:
    """This package's keys in the store, which restarts by torchrun share with the attempts before."""
    return PrefixStore(f"alexnet_lit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def _first_failure(store: Store, failure: Failure | None = None) -> Failure | None:
    """The failure in the store; `failure` becomes it if there is none yet. Raises: DistError if the store is gone."""
    if failure is not None:
        store.compare_set("failed", "", json.dumps(failure._asdict()))
    return Failure(**json.loads(store.get("failed"))) if store.check(["failed"]) else None


def launch(job: dict[str, Any], *, ranks: int, name: str) -> tuple[Failure | None, bool]:
    """Run `job` in `ranks` processes and wait for all of them. `name` is what `ps` shows beside them.

    If a rank dies or this process ends, all ranks end. Signals are forwarded to the ranks, which finish their step and
    save. Returns what failed first, if anything did, and whether a signal came.
    """
    tcp = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_LONG)
    store = _namespace(tcp)
    store.set("job", json.dumps(job))
    command = [sys.executable, "-P", "-m", "alexnet_lit.app", name]  # whose sys.path is this process's, see PYTHONPATH
    received: list[int] = []
    with handling((*STOP_SIGNALS, *hangup()), lambda number, _: received.append(number)):
        quiet = subprocess.DEVNULL if getattr(sys.stdout, "name", "") == os.devnull else None  # one of several jobs
        more: Any = {"process_group": _OWN_GROUP, "stdout": quiet}
        processes = [subprocess.Popen(command, env=_environment(n, ranks, tcp.port), **more) for n in range(ranks)]
        try:
            _supervise(processes, received, store)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return _first_failure(store), bool(received)


def _supervise(processes: list["subprocess.Popen[bytes]"], received: list[int], store: Store) -> None:
    """Forward signals to the ranks until all have ended, or the deadline after a failure has passed."""
    handed_on, deadline, running = 0, float("inf"), True
    while running and time.monotonic() < deadline:
        for number in received[handed_on:] if _OWN_GROUP is not None else ():
            again = handed_on and number not in (signal.SIGINT, signal.SIGTERM)  # it changes nothing, but may kill
            handed_on += 1
            for rank, process in enumerate(() if again else processes):  # one that still starts has nothing to save
                process.send_signal(number if store.check([f"here/{rank}"]) else signal.SIGTERM)
        statuses = [process.poll() for process in processes]
        running = None in statuses
        for rank, status in enumerate(statuses):
            if status is not None and not store.check([f"left/{rank}"]):  # ended without reporting why
                how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"
                _first_failure(store, Failure(rank, f"rank {rank} {how}", killed=status < 0))
        if any(statuses) or sum(number in (signal.SIGINT, signal.SIGTERM) for number in received) > 1:
            deadline = min(deadline, time.monotonic() + _LAUNCHER_GRACE)
        time.sleep(0.1 if running else 0)


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """A rank's environment variables: torchrun's, its share of the cores, and where this process imports from."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    variables = {key: str(value) for key, value in numbers.items()}
    variables |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True", "ALEXNET_LIT_CHILD": "1"}
    threads, paths = str(max(1, cores() // ranks)), os.pathsep.join(sys.path)
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": paths, **variables}
