"""The processes of one run: rank 0 tells the others what to do, and none of them outlives another's failure."""

import functools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.distributed.store import LONG, MEET, Failure, Store, at, first_failure, held, meet, ours
from alexnet_lit.errors import UserError

_LOOK = 1.0  # seconds between looks at whether a rank has failed
_NEWS = 3.0  # seconds that a rank whose connection was lost waits to hear why
_GRACE = 4.0  # seconds that a rank has to come to an end by itself once another has failed


class RankGroup:
    """One rank's line to the others: a store of keys and values that all of them read and write.

    The store is held by what started the processes (torchrun, or `launch`) or else by rank 0. A thread looks each
    second whether a rank has failed, or the store has gone with a process that was killed; then this rank ends too,
    whatever it waits for.
    """

    def __init__(self, place: RankEnvironment) -> None:
        self.place = place
        # Called before this process is ended in the middle of a wait, as a rank has failed.
        self.on_abort: Callable[[Failure], object] = lambda failure: None
        store = meet(place)
        self._store = ours(store)
        self._store.set(f"here/{place.rank}", "")
        self._told = place.is_child
        self._over = threading.Event()
        # A store answers one thread at a time, and the main thread may wait there for long.
        self._watcher = threading.Thread(target=self._watch, args=(ours(store.clone()),), daemon=True)
        self._watcher.start()

    def broadcast(self, job: dict[str, Any]) -> None:
        """Rank 0 says what all are to do, in values that JSON knows."""
        self._told = True
        self._store.set("job", json.dumps(job))

    def receive(self) -> dict[str, Any]:
        """What rank 0 says. Raises: SystemExit with rank 0's status if it has ended without a job for anyone."""
        self._wait(["job"])
        job: dict[str, Any] = json.loads(self._store.get("job"))
        if "status" in job:
            self._end(job["status"])
        return job

    def barrier(self, mistake: UserError | None = None) -> None:
        """Wait until each rank has said whether it can do the job; `mistake` is why this one can't.

        Raises: UserError on rank 0, SystemExit on the others, if any of them can't.
        """
        place = self.place
        where = f"on {socket.gethostname()}: " if place.nodes > 1 else ""
        self._store.set(f"ready/{place.rank}", f"{where}{mistake}" if mistake else "")
        if place.rank == 0:
            self._call_the_roll()
        keys = [f"ready/{rank}" for rank in range(place.ranks)]
        self._wait(keys)
        mistakes = [text for key in keys if (text := self._store.get(key).decode())]
        if mistakes and place.rank == 0:
            raise UserError(mistakes[0])
        if mistakes:
            self._end(2)

    def fail(self, error: BaseException) -> Failure:
        """Let all ranks end. Returns what failed first, of which `error` may be a consequence. Can be called again."""
        mine = Failure.of(self.place.rank, error)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to all once one has ended
        try:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                mine = self._await_news() or mine  # a lost connection is seldom the reason
            first = first_failure(self._store, mine) or mine
        except dist.DistError:
            first = self._gone()
            self.on_abort(first)
        self._over.set()
        return first

    def status(self) -> int:
        """The exit status of a rank that ends because another has failed."""
        return _status(self._store)

    def leave(self, status: int) -> None:
        """End this rank's part. Where all went well the others wait until rank 0 has written everything. If rank 0
        holds the store, it goes last.
        """
        failed = self._over.is_set()
        if not failed and dist.is_initialized():
            dist.destroy_process_group()
        try:
            if self.place.rank > 0:
                if not failed:
                    self._store.wait(["over"], timedelta(seconds=60))
                self._store.set(f"left/{self.place.rank}", "")
            else:
                self._store.set("left/0", "")
                if not self._told:
                    self.broadcast({"status": status})
                self._store.set("over", "")
                others = [f"left/{rank}" for rank in range(1, self.place.ranks)]
                self._store.wait(others, timedelta(seconds=0 if held() else _GRACE + 2 * _LOOK))
        except dist.DistError:
            pass  # the others, or what held the store, have gone already
        self._over.set()
        self._watcher.join()

    def _end(self, status: int) -> NoReturn:
        self._over.set()
        sys.exit(status)

    def _wait(self, keys: list[str]) -> None:
        """Wait for others to write. Raises: SystemExit if what holds the store has gone."""
        try:
            self._store.wait(keys, LONG)
        except dist.DistError:
            self._end(1)

    def _call_the_roll(self) -> None:
        ranks = range(self.place.ranks)
        try:
            self._store.wait([f"here/{rank}" for rank in ranks], timedelta(seconds=MEET))
        except dist.DistStoreError as error:
            missing = ", ".join(str(rank) for rank in ranks if not self._store.check([f"here/{rank}"]))
            raise UserError(
                f"{at(self.place)}: rank {missing} of {len(ranks)} has not come: start all of them"
            ) from error

    def _gone(self) -> Failure:
        """What held the store has gone with it, so that nobody else can tell."""
        if held():
            return Failure(0, "the process that led it was killed", killed=True)
        return Failure.lost(0, self.place.rank)

    def _await_news(self) -> Failure | None:
        """What another rank, or what started it, tells of its end meanwhile; else a rank that is no longer alive."""
        before, deadline = self._alive(), time.monotonic() + _NEWS
        while time.monotonic() < deadline:
            if failure := first_failure(self._store):
                return failure
            time.sleep(0.1)
        lost = [rank for rank, looks in enumerate(self._alive()) if looks == before[rank] and rank != self.place.rank]
        return Failure.lost(lost[0], self.place.rank) if lost else None

    def _alive(self) -> list[int]:
        """How often each rank has looked."""
        return [self._store.add(f"looks/{rank}", 0) for rank in range(self.place.ranks)]

    def _watch(self, store: Store) -> None:
        failure, grace = None, _GRACE
        while not failure and not self._over.wait(_LOOK):
            try:
                store.add(f"looks/{self.place.rank}", 1)
                failure = first_failure(store)
            except dist.DistError:
                failure, grace = self._gone(), 0.0
        if failure and not self._over.wait(grace):
            # The main thread waits for a rank that will never answer.
            try:
                self.on_abort(failure)
            finally:
                os._exit(_status(store))


@functools.cache
def join() -> RankGroup | None:
    """This process's line to the other ranks of its run; None where it stands alone.

    Raises: UserError if the others can't be found.
    """
    place = rank_environment()
    if place.ranks == 1:
        return None
    if "OMP_NUM_THREADS" not in os.environ:
        told = os.environ.get("SLURM_CPUS_PER_TASK") if place.launcher == "srun" else None
        torch.set_num_threads(int(told or max(1, cores() // place.local_ranks)))
    return RankGroup(place)


def _status(store: Store) -> int:
    """2 after a person's mistake, else 1."""
    try:
        failure = first_failure(store)
    except dist.DistError:
        return 1
    return 2 if failure and failure.mistake else 1
