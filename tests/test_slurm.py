"""Runs and sweeps on a real Slurm, which `make test-slurm` starts: skipped where there is none."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Outcome, Train
from tests.processes import Runs
from tests.runs import equal, scalars, weights
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, sweep_of
from tests.trouble import trouble

ABSENT = shutil.which("sbatch") is None or "SLURM_CONF" not in os.environ
absent = pytest.mark.skipif(ABSENT, reason="no Slurm: make test-slurm starts one")
pytestmark = [pytest.mark.slow, pytest.mark.slurm, absent]


def slurm(*command: str) -> str:
    """What a command of Slurm says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def queue() -> set[str]:
    """The numbers of jobs that wait or run."""
    return set(slurm("squeue", "--noheader", "--format=%A").split())


def started(*arguments: str, cwd: Path) -> "subprocess.Popen[str]":
    """`python train.py ...` in a terminal of its own, as it were, whose output is read later."""
    options: Any = {"text": True, "cwd": cwd, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen([sys.executable, str(REPOSITORY / "train.py"), *arguments], **options)


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
    file, logs = tmp_path / "job.sh", tmp_path / "logs"
    file.write_text(script(logs, trouble("USR1", tmp_path / "warned").replace(" ", "")))

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


pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs alexnet-lit[sweep]")

SLURM = ("-m", "hydra/launcher=submitit_slurm")


def test_one_is_warned_and_goes_on_one_is_killed_and_one_has_two_devices(tmp_path: Path) -> None:
    ask = [*TINY, *SLURM, "trainer.devices=1,1,1,2", "model.dropout=0.5", "checkpoint.every_steps=1"]

    ask += [trouble("USR2", tmp_path / "warned", job=1), trouble("kill", tmp_path / "killed", job=2)]
    process = started(*ask, f"paths.logs={tmp_path / 'logs'}", cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    outcome = Outcome(process.returncode, out, err, tmp_path / "logs")

    sweep = sweep_of(outcome)
    straight, again, _, two = jobs = jobs_of(sweep)
    assert (outcome.status, outcome.err) == (1, "")
    assert "4 jobs submitted: squeue --job=" in outcome.out
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "completed", "unfinished", "completed"]
    assert rows_of(sweep)[2]["reason"] == "no result.json: at work still, or killed"
    assert f"train.py -m resume_sweep={sweep}" in outcome.out
    assert "JobName=alexnet_lit" in slurm("scontrol", "show", "jobs")
    assert "SIGUSR2: finishing this step, then saving" in (again / "train.log").read_text()
    assert "resume  " in (again / "train.log").read_text()
    assert equal(weights(again), weights(straight))
    assert scalars(again)["train/loss"] == scalars(straight)["train/loss"]
    assert result_of(again)["test/loss"] == result_of(straight)["test/loss"]
    assert [result_of(job)["world_size"] for job in (straight, again, two)] == [1, 1, 2]
    assert [job.name for job in jobs] == [f"{number}_trainer.devices-{1 + (number == 3)}" for number in range(4)]
    for job in (straight, two):
        assert len(list(job.glob("events.out.*"))) == 1
        assert [path.name for path in job.glob("*.log")] == ["train.log"]


def test_ctrl_c_leaves_the_jobs_in_the_queue(train: Train, tmp_path: Path) -> None:
    ask = [*TINY, *SLURM, "+hydra.launcher.additional_parameters.hold=true", f"paths.logs={tmp_path}", "seed=0,1"]
    process = started(*ask, cwd=tmp_path)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert line.startswith("2 jobs submitted: squeue --job="), err
    number = line.strip().rpartition("=")[2]
    assert (process.returncode, err) == (130, "interrupted\n")
    assert f"the jobs stay in the queue: scancel {number} ends them" in out
    assert number in queue()
    (sweep,) = (tmp_path / "sweeps").iterdir()
    resumed = train("-m", f"resume_sweep={sweep}")
    assert resumed.refusal.endswith(f"2 of its jobs are in Slurm's queue: wait for their end, or scancel {number}")
    slurm("scancel", number)
    assert number not in queue()
