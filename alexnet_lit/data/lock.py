"""Writing into a folder of data: one process at a time, and a one-line error where it can't be done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_lit.errors import UserError

logger = logging.getLogger("alexnet_lit")


@contextmanager
def locked(folder: Path, *, name: str, key: str, doing: str) -> Iterator[None]:
    """Make the folder and hold the lock file `name` in it: of several processes one works, and the others wait.

    key: the config key that names the folder. doing: "downloads", for those who wait.
    """
    lock = FileLock(folder / name)
    with writing(folder, key=key):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process, which %s into %s", doing, folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(folder: Path, *, key: str) -> Iterator[None]:
    """Raise a UserError where the folder can't be written or its disk is full."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UserError(f"{key}={folder} can't be written ({why}): make room, or name another folder") from error
