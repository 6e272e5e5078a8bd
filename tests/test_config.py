"""Finding the checkpoint that a path names."""

from pathlib import Path

import pytest

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError


def test_a_run_stands_for_its_best_checkpoint_else_its_last(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.ckpt", "best.ckpt"):
        (folder / name).touch()
        for place in (tmp_path, folder, folder / name, str(tmp_path)):
            assert checkpoint_file(place) == folder / name


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    for place, reason in (
        ("nowhere", "there is no such file or folder"),
        ("", "there is no best.ckpt or last.ckpt in it"),
    ):
        with pytest.raises(UserError) as raised:
            checkpoint_file(tmp_path / place)
        assert str(raised.value) == f"{tmp_path / place}: {reason}: name a run folder, or a .ckpt file of one"
