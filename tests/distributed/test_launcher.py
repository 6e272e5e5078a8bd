"""`trainer.devices=2` without torchrun: one run from one folder, and nothing left when it ends, however it ends."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.distributed.failing import failing
from tests.processes import LENET, Runs, rank_group

pytestmark = pytest.mark.slow

LONG = (*LENET, "trainer.devices=2", "trainer.max_epochs=500", "callbacks.progress.line_seconds=0.5")


def ranks_of(folder: Path) -> list[int]:
    """Processes of the runs in this folder that are alive."""
    listing = subprocess.run(["ps", "-wweo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listing.splitlines() if f"alexnet_lit.app {folder}" in line]


def gone(folder: Path, seconds: float) -> bool:
    """Whether all of them end within that time."""
    deadline = time.monotonic() + seconds
    while ranks_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not ranks_of(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_saves_and_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs")
    (process,) = run.start_until("epoch 1/500  ", *LONG)

    os.kill(process.pid or 0, number)

    assert run.wait([process]) == [130]
    assert gone(tmp_path, 0)
    assert (run.result["status"], run.result["world_size"]) == ("interrupted", 2)
    assert run.result["reason"] == number.name
    assert f"train.py ckpt={run.folder}" in run.text
    assert "Traceback" not in run.text
    assert "death signal" not in run.text

    steps = run.result["steps"]
    resumed = Runs(tmp_path / "logs", environment=rank_group, ranks=2)
    assert resumed(f"ckpt={run.folder}", f"trainer.max_steps={steps + 3}") == [0, 0], resumed.text
    assert resumed.result["steps"] == steps + 3


def test_a_rank_that_is_killed_takes_the_run_down(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs")
    processes = run.start_until("epoch 1/500  ", *LONG)
    began = time.monotonic()

    os.kill(ranks_of(tmp_path)[-1], signal.SIGKILL)

    assert run.wait(processes) == [1]
    assert time.monotonic() - began < 20
    assert gone(tmp_path, 0)
    assert run.result["status"] == "failed"
    assert "failed: rank 1 was ended by SIGKILL\n" in run.text
    assert "failed: rank 1 was ended by SIGKILL\n" in (run.folder / "train.log").read_text()
    assert "Traceback" not in run.text, "what the other rank lost is no news"


def test_ranks_end_with_what_started_them(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs")
    (process,) = run.start_until("epoch 1/500  ", *LONG)
    assert len(ranks_of(tmp_path)) == 2

    os.kill(process.pid or 0, signal.SIGKILL)

    assert gone(tmp_path, 20)
    assert run.wait([process]) == [-signal.SIGKILL]


def test_a_sweep_names_the_rank_that_failed_first_and_why(tmp_path: Path) -> None:
    """Whatever the others lose by that. The job after it runs."""
    run = Runs(tmp_path / "logs")
    how = [argument.replace("=raise", "=raise,_exit") for argument in failing("raise")]

    assert run("-m", *LENET, "trainer.devices=2", "trainer.max_epochs=1", *how) == [1]

    (sweep,) = (tmp_path / "logs" / "sweeps").iterdir()
    reasons = ["rank 1: ZeroDivisionError: boom", "rank 1 exited with status 3"]
    jobs = sorted(path for path in sweep.iterdir() if path.is_dir())
    for job, reason in zip(jobs, reasons, strict=True):
        result = json.loads((job / "result.json").read_text())
        assert (result["status"], result["reason"]) == ("failed", reason)
        assert "killed" not in result, "to go on from last.ckpt would end in the same way"
        log = (job / "train.log").read_text()
        assert log.count("Traceback") == log.count("\nZeroDivisionError: boom") == (reason == reasons[0])
        assert log.rstrip().endswith(f"failed: {reason}")
        assert f"\nfailed: {reason}\n" in run.text
        assert f"{job}: {reason}\n" in run.text, "below the closing table"
        assert f"| {reason} |" in (sweep / "summary.md").read_text()
    with (sweep / "summary.csv").open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == reasons
    assert run.text.count("Traceback") == 1
