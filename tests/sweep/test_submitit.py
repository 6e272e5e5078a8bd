"""Jobs of a sweep that submitit starts: as processes of this machine, and on a real Slurm."""

import os
import shutil
import subprocess

import pytest

from tests.conftest import Train
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, sweep_of

pytestmark = pytest.mark.slow


def check(command: Train, launcher: str) -> None:
    """Two jobs, of which one fails."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs alexnet-lit[sweep]")
    outcome = command(*TINY, "logger=none", "-m", f"hydra/launcher={launcher}", "optimizer.lr=0.01,-1")
    assert outcome.status == 1, outcome.err
    sweep = sweep_of(outcome)
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "failed"]
    assert result_of(jobs_of(sweep)[0])["world_size"] == 1
    logs = [path.read_text() for path in sweep.rglob("*_log.*")]
    assert not any("Traceback" in text or "warning: " in text for text in logs)
    assert "Traceback" not in outcome.err


def test_on_this_machine(command: Train) -> None:
    check(command, "submitit_local")


@pytest.mark.slurm
def test_on_slurm(command: Train) -> None:
    if shutil.which("sinfo") is None or "SLURM_CONF" not in os.environ:
        pytest.skip("no Slurm: make test-slurm starts one")
    check(command, "submitit_slurm")
    assert (
        "JobName=alexnet_lit"
        in subprocess.run(["scontrol", "show", "jobs"], capture_output=True, text=True, check=True).stdout
    )
