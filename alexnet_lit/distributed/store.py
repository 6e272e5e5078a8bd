"""Where the processes of a run find each other: a store of keys and values at an address that all of them know."""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Self

from torch.distributed import (  # type: ignore[attr-defined] # torch offers them, though its types don't say so
    DistError,
    PrefixStore,
    Store,
    TCPStore,
)

from alexnet_lit.distributed.environment import RankEnvironment
from alexnet_lit.errors import Exited, UserError, reason_of

MEET = 300  # seconds until all processes should have started, on however many machines
LONG = timedelta(days=7)  # others may have to download the data, or to finish a validation

__all__ = ["LONG", "MEET", "Failure", "Store", "at", "first_failure", "held", "hold", "meet", "ours"]


@dataclass(frozen=True)
class Failure:
    """Why a run ended: the rank that failed first, and in one line of what.

    mistake: a person's. killed: the rank was killed or lost. teller: the rank that noticed; None for what started them.
    """

    rank: int
    reason: str
    mistake: bool = False
    killed: bool = False
    teller: int | None = None

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Self:
        """What an exception on a rank tells."""
        text = reason_of(error)
        if isinstance(error, UserError):
            return cls(rank, text, mistake=True, teller=rank)
        return cls(rank, f"rank {rank} {text}" if isinstance(error, Exited) else f"rank {rank}: {text}", teller=rank)

    @classmethod
    def lost(cls, rank: int, teller: int) -> Self:
        """A rank that is no longer there."""
        return cls(rank, f"rank {rank} was lost: killed, or ended without a word", killed=True, teller=teller)


def first_failure(store: Store, failure: Failure | None = None) -> Failure | None:
    """The failure that the store holds. Where there is none yet, `failure` becomes it. Raises: DistError without it."""
    if failure is not None:
        store.compare_set("failed", "", json.dumps(asdict(failure)))
    return Failure(**json.loads(store.get("failed"))) if store.check(["failed"]) else None


def hold() -> TCPStore:
    """A store for processes that this one is about to start. It goes with this process."""
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=LONG)


def held() -> bool:
    """Whether what started this process holds the store; else rank 0 does."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def ours(store: Store) -> Store:
    """The part of the store that is for this package. Processes that torchrun starts anew meet in the same store."""
    return PrefixStore(f"alexnet_lit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def at(place: RankEnvironment) -> str:
    """The address as a person sets it."""
    return f"MASTER_ADDR={place.address} MASTER_PORT={place.port}"


def meet(place: RankEnvironment) -> TCPStore:
    """The store at the place's address; rank 0 opens it where nobody else has. Raises: UserError if that can't be."""
    if place.rank == 0 and not held():
        try:
            return _open(place, is_master=True)
        except DistError as error:
            reason = "is in use" if "EADDRINUSE" in str(error) else f"can't be opened ({error})"
            raise UserError(f"{at(place)}: {reason}: set MASTER_PORT to another one for all processes") from error
    deadline = time.monotonic() + MEET
    while True:
        try:
            socket.create_connection((place.address, place.port), timeout=10).close()  # it fails without a word
            return _open(place, is_master=False)
        except (OSError, DistError) as error:
            if time.monotonic() > deadline:
                way_out = "start all of them, where they can reach each other"
                raise UserError(
                    f"{at(place)}: rank {place.rank} finds rank 0 not there ({error}): {way_out}"
                ) from error
            time.sleep(0.2)


def _open(place: RankEnvironment, *, is_master: bool) -> TCPStore:
    # Multi-tenant, as torch.distributed opens a store at the same place when training starts.
    return TCPStore(
        place.address, place.port, is_master=is_master, wait_for_workers=False, multi_tenant=is_master, timeout=LONG
    )
