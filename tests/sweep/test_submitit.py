"""Jobs of a sweep that submitit starts as processes of this machine: what Slurm will do, tried out."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Train
from tests.sweep.tiny import QUIET, jobs_of, rows_of, started, trouble

pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs alexnet-lit[sweep]")


def printed(logs: Path) -> str:
    """What submitit has kept of the jobs' output."""
    return "".join(path.read_text() for path in logs.rglob("*_log.*"))


@pytest.mark.slow
def test_one_is_killed_and_ctrl_c_lets_the_other_save(train: Train, tmp_path: Path) -> None:
    killed, waiting = tmp_path / "killed", tmp_path / "waiting"
    killed.touch()
    waiting.touch()
    logs = tmp_path / "logs"
    ask = [*QUIET, "-m", "hydra/launcher=submitit_local", "optimizer.lr=0.02,0.03", "checkpoint.every_steps=1"]
    ask += [trouble("kill", killed, job=0), trouble("wait", waiting, job=1), f"paths.logs={logs}"]
    process = started(*ask, cwd=tmp_path)
    deadline = time.monotonic() + 100
    while killed.exists() or waiting.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of its processes
    out, err = process.communicate(timeout=60)

    (sweep,) = (logs / "sweeps").iterdir()
    assert (process.returncode, err) == (130, "interrupted\n")
    assert "SIGINT: the jobs that run save and end" in out
    assert [row["status"] for row in rows_of(sweep)] == ["unfinished", "interrupted"]
    assert [row["reason"] for row in rows_of(sweep)] == ["no result.json: at work still, or killed", "SIGINT"]
    assert f"train.py -m resume_sweep={sweep}" in out
    assert "Traceback" not in printed(logs)
    assert "warning: " not in printed(logs)

    resumed = train("-m", f"resume_sweep={sweep}", "hydra/launcher=basic", logs=logs)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "completed"]
    assert all("resume  " in (job / "train.log").read_text() for job in jobs_of(sweep))


def test_what_only_slurm_can_do_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    tasks = "hydra.launcher.tasks_per_node=2: a job of a sweep is one task: use trainer.devices for the processes of a"
    for launcher, line in (
        (["submitit_local", "hydra.launcher.tasks_per_node=2"], tasks),
        (["submitit_slurm"], 'hydra/launcher=submitit_slurm: Could not detect "srun", are you indeed on a '),
    ):
        outcome = train(*QUIET, "-m", f"hydra/launcher={launcher[0]}", *launcher[1:], "seed=0,1")
        assert outcome.status == 2
        assert outcome.err.startswith(f"error: {line}")
        assert outcome.err.count("\n") == 1
        assert not list((outcome.logs / "sweeps").iterdir())
