"""Ranks that something else has started: one of them speaks, and none outlives another's failure."""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from alexnet_lit.callbacks.checkpointing import AtomicFile
from alexnet_lit.data import Sample
from alexnet_lit.errors import UserError
from alexnet_lit.lit import Classifier
from tests.distributed.failing import failing
from tests.distributed.test_environment import told
from tests.processes import LENET, Runs, rank_group
from tests.test_run import scalars

pytestmark = pytest.mark.slow

SHORT = (*LENET, "trainer.max_epochs=1", "trainer.limit_train_batches=6")
LONG = (*LENET, "trainer.max_epochs=500", "callbacks.progress.line_seconds=0.5")
STEP = 3  # at which something goes wrong


def srun(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """What a real Slurm sets in the tasks of a step on one machine."""
    step = (
        f"SLURM_JOB_ID={port} SLURM_STEP_ID=0 SLURM_NTASKS={ranks} SLURM_STEP_NUM_TASKS={ranks} SLURM_STEP_NUM_NODES=1"
    )
    nodes = f"SLURM_STEP_TASKS_PER_NODE={ranks} SLURM_STEP_NODELIST=localhost SLURM_JOB_NAME=bash"
    return told(f"{step} {nodes} SLURM_PROCID={rank} SLURM_LOCALID={rank} SLURM_NODEID=0")


def machines(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """A machine a rank."""
    return {**rank_group(rank, ranks, port), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": str(ranks)}


def _at_a_step(acts: dict[int, Callable[[], object]]) -> None:
    """What each rank does when a certain step begins."""
    begin = Classifier.on_train_batch_start
    act = acts.get(int(os.environ["RANK"]), int)

    def begin_or_act(self: Classifier, *arguments: Any) -> None:
        if self.global_step == STEP:
            act()
        begin(self, *arguments)

    Classifier.on_train_batch_start = begin_or_act  # type: ignore[method-assign, assignment] # in this process alone


def _boom() -> NoReturn:
    raise ZeroDivisionError("boom")


def rank_1_fails_and_rank_0_waits_for_ever() -> None:
    _at_a_step({0: lambda: time.sleep(1000), 1: _boom})


def rank_1_fails() -> None:
    _at_a_step({1: _boom})


def rank_0_fails() -> None:
    _at_a_step({0: _boom})


def rank_0_is_killed() -> None:
    _at_a_step({0: lambda: os.kill(os.getpid(), signal.SIGKILL)})


def the_disk_is_full() -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise UserError("last.ckpt: cannot be written (No space left on device): make room there")

    AtomicFile.save_checkpoint = refuse  # type: ignore[method-assign] # in this process alone


def rank_1_has_no_images() -> None:
    def missing(self: Sample) -> NoReturn:
        raise UserError("the images: not on this machine: download them")

    if os.environ["RANK"] == "1":
        Sample.prepare_data = missing  # type: ignore[method-assign, assignment] # in this process alone


def test_tasks_of_srun_are_one_run_that_sigusr1_stops_and_that_goes_on(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2, environment=srun)
    processes = run.start_until("epoch 1/500  ", *LONG)

    for process in processes:  # Slurm sends it to each task
        os.kill(process.pid or 0, signal.SIGUSR1)

    assert run.wait(processes) == [130, 130]
    assert "Traceback" not in run.text
    stopped = run.result
    assert (stopped["status"], stopped["world_size"]) == ("interrupted", 2)
    assert run.text.count("features.conv1") == run.text.count("SIGUSR1: finishing") == 1
    files = sorted(path.name for path in run.folder.iterdir())
    assert len([name for name in files if name.startswith("events.out.")]) == 1

    assert run(f"ckpt={run.folder}", f"trainer.max_steps={stopped['steps'] + 3}") == [0, 0], run.text
    assert (run.result["status"], run.result["steps"]) == ("completed", stopped["steps"] + 3)
    assert [number for number, _ in scalars(run.folder)["train/loss"]] == list(range(1, run.result["steps"] + 1))


def test_what_needs_no_training_is_answered_once(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    for typed, status, line in (
        (["model.lnr=true"], 2, "error: model.lnr: there is no such key: did you mean model.lrn?"),
        (["trainer.devices=3"], 2, "error: trainer.devices=3: torchrun started 2 on this machine: use"),
        (["data.batch_size=33"], 2, "error: data.batch_size=33 does not divide over trainer.devices=2: use a multiple"),
        (["trainer.strategy=fsdp"], 2, "error: trainer.strategy=fsdp: should be one of auto, ddp, ddp_bf16"),
        (["seed=1,2", "-m"], 2, "error: -m: a sweep starts the processes of each run by itself: start it without"),
        (["--cfg=jobs"], 2, "usage: "),
        (["--cfg=job"], 0, "seed: 0"),
    ):
        run.output.write_text("")
        options_first = sorted([*SHORT, *typed], key=lambda argument: not argument.startswith("--"))
        assert run(*options_first) == [status] * 2, run.text
        lines = run.text.splitlines()
        assert lines[0].startswith(line)
        assert len(lines) == 1 or "--cfg" in typed[0]
        assert sum(text.startswith(line) for text in lines) == 1
        assert not list(tmp_path.glob("logs/*/*"))


def test_images_that_another_machine_lacks_are_told_once(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2, environment=machines)

    assert run(*SHORT, before=rank_1_has_no_images) == [2, 2]

    errors = [line for line in run.text.splitlines() if line.startswith("error")]
    assert errors == [f"error: on {socket.gethostname()}: the images: not on this machine: download them"]
    assert "Traceback" not in run.text
    assert "2 processes on 2 machines" in run.text
    assert not list((tmp_path / "logs" / "runs").iterdir())


@pytest.mark.parametrize(
    ("before", "rank"), [(rank_1_fails_and_rank_0_waits_for_ever, 1), (rank_1_fails, 1), (rank_0_fails, 0)]
)
def test_a_rank_that_fails_tells_why_and_takes_the_others_down(
    before: Callable[[], None], rank: int, tmp_path: Path
) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    processes = run.start_until("boom", *SHORT, before=before)
    began = time.monotonic()

    assert run.wait(processes) == [1, 1]

    assert time.monotonic() - began < 20
    assert run.text.count("ZeroDivisionError: boom") == run.text.count("Traceback") == 1
    assert f"(on rank {rank} of 2)" in run.text
    assert (run.folder / "train.log").read_text().count("ZeroDivisionError: boom") == 1
    assert (run.result["status"], run.result["reason"]) == ("failed", f"rank {rank}: ZeroDivisionError: boom")


def test_a_rank_that_exits_is_named_with_its_status(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)

    assert run(*SHORT, *failing("exit")) == [1, 1]

    assert (run.result["status"], run.result["reason"]) == ("failed", "rank 1 exited with status 3")
    assert run.text.count("Traceback") == (run.folder / "train.log").read_text().count("Traceback") == 1
    assert "sys.exit(3)" in run.text, "where that is"


def test_a_rank_that_is_gone_is_named_by_those_that_are_left(tmp_path: Path) -> None:
    """What started it knows its status, as torchrun, and tells it."""
    run = Runs(tmp_path / "logs", ranks=2)

    assert run(*SHORT, *failing("_exit")) == [1, 3]

    reason = "rank 1 was lost: killed, or ended without a word"
    assert (run.result["status"], run.result["reason"], run.result["killed"]) == ("failed", reason, True)
    assert f"\nfailed: {reason}\n" in run.text
    assert "Traceback" not in run.text, "what the other rank lost is no news"


def test_a_rank_that_is_killed_takes_the_others_down_without_torchrun_too(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    processes = run.start(*SHORT, before=rank_0_is_killed)
    processes[0].join(100)
    began = time.monotonic()

    assert run.wait(processes) == [-signal.SIGKILL, 1], "with rank 0 the store goes"

    assert time.monotonic() - began < 20


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)

    assert run(*SHORT, before=the_disk_is_full) == [2, 2]

    assert [line for line in run.text.splitlines() if "error" in line or "Error" in line] == [
        "error: last.ckpt: cannot be written (No space left on device): make room there"
    ]
