"""What tests on a real Slurm share: `make test-slurm` starts one for them."""

import os
import shutil
import subprocess

import pytest

needed = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("sbatch") is None or "SLURM_CONF" not in os.environ, reason="no Slurm: make test-slurm starts one"
    ),
]


def slurm(*command: str) -> str:
    """What a command of Slurm says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue() -> set[str]:
    """The numbers of jobs that wait or run."""
    return set(slurm("squeue", "--noheader", "--format=%A").split())
