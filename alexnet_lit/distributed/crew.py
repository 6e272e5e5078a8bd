"""The processes of one run: rank 0 tells the others what to do, and none of them outlives another's failure."""

import functools
import json
import os
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
from alexnet_lit.distributed.place import Place, here
from alexnet_lit.distributed.store import LONG, MEET, Store, at, held, meet, ours
from alexnet_lit.errors import Mistake

_LOOK = 1.0  # seconds between looks at whether a rank has failed
_GONE = "the process that led it was killed"  # it held the store, which is gone: there is nobody to report to
_GRACE = 4.0  # seconds that a rank has to come to an end by itself once another has failed


class Crew:
    """One rank's line to the others: a store of keys and values that all of them read and write.

    The store is held by what started the processes (torchrun, or `launch`) or else by rank 0. A thread looks each
    second whether a rank has failed, or the store has gone with a process that was killed; then this rank ends too,
    whatever it waits for.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        # Said where this process is ended in the middle of a wait; told who was killed, if that is why.
        self.last_words: Callable[[str], object] = lambda killed: None
        store = meet(place)
        self._store = ours(store)
        self._store.set(f"here/{place.rank}", "")
        self._told = place.led
        self._over = threading.Event()
        # A store answers one thread at a time, and the main thread may wait there for long.
        self._watcher = threading.Thread(target=self._watch, args=(ours(store.clone()),), daemon=True)
        self._watcher.start()

    def tell(self, job: dict[str, Any]) -> None:
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

    def settle(self, mistake: Mistake | None = None) -> None:
        """Wait until each rank has said whether it can do the job; `mistake` is why this one can't.

        Raises: Mistake on rank 0, SystemExit on the others, if any of them can't.
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
            raise Mistake(mistakes[0])
        if mistakes:
            self._end(2)

    def fail(self, error: BaseException) -> bool:
        """Let all ranks end. Whether this one is the first to fail: then it is the one to tell why."""
        mine = json.dumps({"rank": self.place.rank, "mistake": str(error) if isinstance(error, Mistake) else None})
        try:
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                self._await_news()  # a lost connection is seldom the reason, but what follows from another's failure
            first = self._store.compare_set("failed", "", mine).decode() == mine
        except dist.DistError:
            first = False
            self.last_words(_GONE)
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
                if not self._told:
                    self.tell({"status": status})
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
            raise Mistake(
                f"{at(self.place)}: rank {missing} of {len(ranks)} has not come: start all of them"
            ) from error

    def _await_news(self) -> None:
        deadline = time.monotonic() + 2 * _LOOK
        while time.monotonic() < deadline and not self._store.check(["failed"]):
            time.sleep(0.1)

    def _watch(self, store: Store) -> None:
        failed, grace, killed = False, _GRACE, ""
        while not failed and not self._over.wait(_LOOK):
            try:
                failed = store.check(["failed"])
            except dist.DistError:
                failed, grace, killed = True, 0.0, _GONE
        if failed and not self._over.wait(grace):
            # The main thread waits for a rank that will never answer.
            try:
                self.last_words(killed)
            finally:
                os._exit(_status(store))


@functools.cache
def join() -> Crew | None:
    """This process's line to the other ranks of its run; None where it stands alone.

    Raises: Mistake if the others can't be found.
    """
    place = here()
    if place.ranks == 1:
        return None
    if "OMP_NUM_THREADS" not in os.environ:
        told = os.environ.get("SLURM_CPUS_PER_TASK") if place.starter == "srun" else None
        torch.set_num_threads(int(told or max(1, cores() // place.local_ranks)))
    return Crew(place)


def _status(store: Store) -> int:
    """2 after a person's mistake, else 1."""
    try:
        failed = json.loads(store.get("failed")) if store.check(["failed"]) else {}
    except dist.DistError:
        return 1
    return 2 if failed.get("mistake") else 1
