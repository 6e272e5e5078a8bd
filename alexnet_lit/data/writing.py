"""Writing into a folder of a person's: one process at a time, and one readable line where it can't be done."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_lit.errors import UserError

logger = logging.getLogger("alexnet_lit")


@contextmanager
def alone(folder: Path, *, lock: str, key: str, doing: str) -> Iterator[None]:
    """Make the folder and hold its lock: of several processes one does it, and the others wait for what it leaves.

    lock: the file's name. key: the config key that names the folder. doing: "downloads", for those who wait.
    """
    guard = FileLock(folder / lock)
    with writing(folder, key=key):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            guard.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process, which %s into %s", doing, folder)
            guard.acquire()
    try:
        yield
    finally:
        guard.release()


@contextmanager
def writing(folder: Path, *, key: str) -> Iterator[None]:
    """Turn a folder that can't be written, or a disk that is full, into a `UserError`."""
    try:
        yield
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UserError(f"{key}={folder} can't be written ({why}): make room, or name another folder") from error
