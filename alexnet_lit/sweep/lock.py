"""One process at a time has a sweep: while jobs run, another one that would go on with it is turned away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import PLAN
from alexnet_lit.sweep.slurm import queued_of

_held: list[FileLock] = []


def hold(sweep: Path) -> None:
    """Take the sweep until `let_go` or the end of the process. Raises: UserError if another process has it."""
    lock = FileLock(sweep / ".running.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{sweep}: this sweep is still running: wait for its end, or stop it with Ctrl-C") from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    _held.append(lock)


def goes_on() -> bool:
    """Whether this process has a sweep that was started before."""
    return bool(_held)


def let_go() -> None:
    """Release what this process holds."""
    while _held:
        _held.pop().release()


@contextmanager
def held(sweep: Path) -> Iterator[None]:
    """Go on with a sweep: it is held, and Hydra, which saves the plan again, finds it back as it was at its start.

    Raises: UserError while another process has it, or jobs of it are in Slurm's queue.
    """
    if jobs := queued_of(sweep):
        way_out = f"wait for their end, or scancel {' '.join(dict.fromkeys(job.partition('_')[0] for job in jobs))}"
        raise UserError(f"{sweep}: {len(jobs)} of its jobs are in Slurm's queue: {way_out}")
    hold(sweep)
    plan = (sweep / PLAN).read_bytes()
    try:
        yield
    finally:
        (sweep / PLAN).write_bytes(plan)
        let_go()
