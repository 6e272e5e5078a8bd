"""Sweeps on a real Slurm."""

import signal
from pathlib import Path

import pytest

from tests.conftest import Train
from tests.slurm import needed, queue, slurm
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, started, sweep_of, trouble
from tests.test_run import equal, scalars, weights

pytestmark = needed
pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs alexnet-lit[sweep]")

SLURM = ("-m", "hydra/launcher=submitit_slurm")


def test_one_is_warned_and_goes_on_one_is_killed_and_one_has_two_devices(command: Train, tmp_path: Path) -> None:
    warned, killed = tmp_path / "warned", tmp_path / "killed"
    warned.touch()
    killed.touch()
    ask = [*TINY, *SLURM, "trainer.devices=1,1,1,2", "model.dropout=0.5", "checkpoint.every_steps=1"]

    outcome = command(*ask, trouble("USR2", warned, job=1), trouble("kill", killed, job=2))

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
    assert resumed.status == 2
    assert f"2 of its jobs are in Slurm's queue: wait for their end, or scancel {number}\n" in resumed.err
    slurm("scancel", number)
    assert number not in queue()
