"""Which pictures are meant by what a person typed. Opens none of them."""

from collections.abc import Sequence
from pathlib import Path

from alexnet_lit.data.picture import KINDS, is_picture, walk
from alexnet_lit.errors import UserError

STDIN = "-"


def find(typed: Sequence[str]) -> list[str]:
    """The files in the order typed; of a folder, all that have a picture's suffix, at any depth, by name.

    A file that is named is taken whatever its suffix, and "-" is one picture from stdin. In a folder hidden files and
    folders are not seen, and links are followed.
    Raises: UserError for what is not there, a folder without pictures or one that can't be read, and "-" twice.
    """
    if typed.count(STDIN) > 1:
        raise UserError("- -: stdin is one picture: name the others as files")
    found: list[str] = []
    for name in typed:
        path = Path(name).expanduser()
        if name == STDIN:
            found.append(name)
        elif path.is_dir():
            found += _inside(name, path)
        elif path.exists():
            found.append(str(path))
        else:
            raise UserError(f"{name}: there is no such file or folder: name pictures, a folder of them, or - for stdin")
    return found


def _inside(name: str, folder: Path) -> list[str]:
    try:
        inside = [str(folder / file) for file in walk(folder) if is_picture(file)]
    except OSError as error:
        raise UserError(f"{name}: {error.filename} can't be read ({error.strerror}): make it readable") from error
    if not inside:
        raise UserError(f"{name}: there is no picture in it ({KINDS}): name another folder, or files one by one")
    return inside
