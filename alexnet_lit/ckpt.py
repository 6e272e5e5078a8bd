"""Which file is meant where a person names a checkpoint."""

from pathlib import Path

from alexnet_lit.errors import UserError

_WAY_OUT = "name a run folder, or a .ckpt file of one"


def checkpoint_file(place: str | Path) -> Path:
    """The .ckpt file at `place`; of a run folder, or of its checkpoints folder, best.ckpt, else last.ckpt.

    Raises: UserError if there is none.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise UserError(f"{place}: there is no such file or folder: {_WAY_OUT}")
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{place}: there is no best.ckpt or last.ckpt in it: {_WAY_OUT}")
