"""The script for Slurm in docs/slurm.md, on a real one, as it is but for its numbers."""

import re
import sys
import time
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.processes import Runs
from tests.slurm import needed, queue, slurm
from tests.sweep.tiny import TINY, result_of, trouble
from tests.test_run import equal, scalars, weights

pytestmark = needed

RUN = (*TINY, "model.dropout=0.5", "data.train_size=32")


def script(logs: Path, *more: str) -> str:
    """The page's, for two tasks on this machine, and a run of four steps."""
    text: str
    (text,) = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (REPOSITORY / "docs" / "slurm.md").read_text(), re.S)
    for there, here in (
        ("--nodes=2 --ntasks-per-node=4 --gpus-per-node=4", "--nodes=1 --ntasks-per-node=2"),
        ("python train.py", f"{sys.executable} {REPOSITORY}/train.py"),
        ("model.lrn=true", " ".join([*RUN, *more, f"paths.logs={logs}"])),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return text


def test_a_run_is_queued_again_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    straight = Runs(tmp_path / "straight", ranks=2)
    assert straight(*RUN) == [0, 0], straight.text
    warned, file, logs = tmp_path / "warned", tmp_path / "job.sh", tmp_path / "logs"
    warned.touch()
    file.write_text(script(logs, trouble("USR1", warned).replace(" ", "")))

    number = slurm("sbatch", "--parsable", f"--chdir={tmp_path}", str(file)).strip()
    deadline = time.monotonic() + 300
    while number in queue():
        assert time.monotonic() < deadline
        time.sleep(0.5)

    text = (tmp_path / f"slurm-{number}.out").read_text()
    (folder,) = (logs / "runs").iterdir()
    assert folder.name.endswith(f"_{number}")
    assert text.count("SIGUSR1: finishing this step, then saving") == text.count("resume  ") == 1
    assert "Traceback" not in text
    assert (result_of(folder)["status"], result_of(folder)["world_size"]) == ("completed", 2)
    assert equal(weights(folder), weights(straight.folder))
    assert scalars(folder)["train/loss"] == scalars(straight.folder)["train/loss"]
    job = slurm("scontrol", "show", "job", number)
    assert "Restarts=1" in job
    assert "JobState=COMPLETED" in job
