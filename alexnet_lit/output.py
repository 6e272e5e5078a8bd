"""A file that a verb writes: never over another one, and whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_lit.errors import UserError


def check_free(path: Path, *, force: bool) -> None:
    """Make sure before the work that its outcome can be written to `path`; `force`: in place of what is there.

    Raises: UserError if it can't.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder: name a file with --out")
    if path.exists() and not force:
        raise UserError(f"{path}: is there already: --force replaces it, --out names another file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}: make it, or name another file with --out")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: can't be written: name a file elsewhere with --out")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; the file moves to its place when the block ends, and is gone if it fails.

    Raises: UserError if the disk refuses.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: can't be written ({error.strerror or error}): name another file with --out"
        ) from error
    finally:
        part.unlink(missing_ok=True)
