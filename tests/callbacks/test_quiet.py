"""What is no news is not said."""

import os
import warnings
from pathlib import Path

import pytest

from tests.conftest import Train
from tests.sweep.tiny import TINY


def test_slurm_on_the_machine_changes_nothing(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # without pytest's own exception for it
        outcome = train(*TINY, "logger=none")
    assert (outcome.status, outcome.err) == (0, "")
    assert "srun" not in outcome.out + (outcome.folder / "train.log").read_text()
