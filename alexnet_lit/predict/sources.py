"""Which pictures are meant by what a person typed. Opens none of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from alexnet_lit.errors import Mistake

STDIN = "-"
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def find(typed: Sequence[str]) -> list[str]:
    """The files in the order typed; of a folder, all that have a picture's suffix, at any depth, by name.

    A file that is named is taken whatever its suffix, and "-" is one picture from stdin. Hidden files and folders in a
    folder are not seen. Raises: Mistake for what is not there, a folder without pictures, and "-" twice.
    """
    if typed.count(STDIN) > 1:
        raise Mistake("- -: stdin is one picture: name the others as files")
    found: list[str] = []
    for name in typed:
        path = Path(name).expanduser()
        if name == STDIN:
            found.append(name)
        elif path.is_dir():
            inside = list(_pictures(path))
            if not inside:
                kinds = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
                raise Mistake(f"{name}: there is no picture in it ({kinds}): name another folder, or files one by one")
            found += inside
        elif path.exists():
            found.append(str(path))
        else:
            raise Mistake(f"{name}: there is no such file or folder: name pictures, a folder of them, or - for stdin")
    return found


def _pictures(folder: Path) -> Iterator[str]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))
        yield from (os.path.join(here, name) for name in names if name.lower().endswith(SUFFIXES))
