"""The ranks of a run: one of them speaks, none outlives another's failure, and nothing is left when the run ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import psutil
import pytest

from alexnet_lit.data import Sample
from alexnet_lit.distributed.launch import _supervise
from alexnet_lit.errors import UserError
from tests.conftest import REPOSITORY
from tests.distributed.test_environment import variables
from tests.processes import LENET, Runs, free_port, rank_group
from tests.runs import scalars
from tests.trouble import trouble

pytestmark = pytest.mark.slow

SHORT = (*LENET, "~callbacks.board", "trainer.max_epochs=1", "trainer.limit_train_batches=6")
LONG = (*LENET, "~callbacks.board", "trainer.max_epochs=500", "callbacks.progress.line_seconds=0.5")


def srun(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """What a real Slurm sets in the tasks of a step on one machine."""
    step = f"SLURM_JOB_ID={port} SLURM_STEP_ID=0 SLURM_NTASKS={ranks} SLURM_STEP_NUM_TASKS={ranks}"
    nodes = f"SLURM_STEP_NUM_NODES=1 SLURM_STEP_TASKS_PER_NODE={ranks} SLURM_STEP_NODELIST=localhost"
    return variables(f"{step} {nodes} SLURM_JOB_NAME=bash SLURM_PROCID={rank} SLURM_LOCALID={rank} SLURM_NODEID=0")


def machines(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """A machine a rank."""
    return {**rank_group(rank, ranks, port), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": str(ranks)}


def test_ranks_have_the_config_and_the_imports_of_their_parent(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('not where the person stands')")
    steps = "+callbacks.steps._target_=lightning.pytorch.callbacks.GradientAccumulationScheduler"
    typed = (*SHORT, "trainer.devices=2", steps, "+callbacks.steps.scheduling={0: 2}")
    run = Runs(tmp_path / "logs")
    assert run(*typed, before=partial(os.chdir, tmp_path)) == [0], run.text
    assert run.result["steps"] == 3


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
        (["-m", "seed=1,2"], 2, "error: -m: a sweep starts the processes of each run by itself: start it without"),
        (["--cfg=job"], 0, "seed: 0"),
    ):
        run.output.write_text("")
        assert run(*typed, *SHORT) == [status] * 2, run.text
        lines = run.text.splitlines()
        assert lines[0].startswith(line)
        assert len(lines) == 1 or "--cfg" in typed[0]
        assert sum(text.startswith(line) for text in lines) == 1
        assert not list(tmp_path.glob("logs/*/*"))


def test_what_is_wrong_on_one_machine_is_told_once(tmp_path: Path) -> None:
    lacking = Runs(tmp_path / "lacking", ranks=2, environment=machines)
    assert lacking(*SHORT, before=rank_1_has_no_images) == [2, 2]
    line = f"error: on {socket.gethostname()}: the images: not on this machine: download them"
    assert "2 processes on 2 machines" in lacking.text
    assert not list((tmp_path / "lacking" / "runs").iterdir())

    full = Runs(tmp_path / "full", ranks=2)
    assert full(*SHORT, trouble("full")) == [2, 2]
    disk = "error: last.ckpt: cannot be written (No space left on device): make room there"

    for run, text in ((lacking, line), (full, disk)):
        assert [line for line in run.text.splitlines() if re.search("error|Error|Traceback", line)] == [text]


def test_a_rank_that_fails_tells_why_and_takes_the_others_down(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    processes = run.start_until("a bug", *SHORT, trouble("sleep"), trouble("error", rank=1))
    began = time.monotonic()
    assert run.wait(processes) == [1, 1]
    assert time.monotonic() - began < 20
    assert run.text.count("RuntimeError: a bug") == run.text.count("Traceback") == 1
    assert "(on rank 1 of 2)" in run.text
    assert (run.folder / "train.log").read_text().count("RuntimeError: a bug") == 1
    assert (run.result["status"], run.result["reason"]) == ("failed", "rank 1: RuntimeError: a bug")


def test_a_rank_that_is_gone_is_named_by_those_that_are_left(tmp_path: Path) -> None:
    """What started it knows its status, as torchrun, and tells it."""
    run = Runs(tmp_path / "logs", ranks=2)
    assert run(*SHORT, trouble("_exit", rank=1)) == [1, 3]
    reason = "rank 1 was lost: killed, or ended without a report"
    assert (run.result["status"], run.result["reason"], run.result["killed"]) == ("failed", reason, True)
    assert f"\nfailed: {reason}\n" in run.text
    assert "Traceback" not in run.text, "what the other rank lost is no news"


def test_a_rank_that_is_killed_takes_the_others_down_without_torchrun_too(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    processes = run.start(*SHORT, trouble("kill"))
    processes[0].join(100)
    began = time.monotonic()
    assert run.wait(processes) == [-signal.SIGKILL, 1], "with rank 0 the store goes"
    assert time.monotonic() - began < 20


# trainer.devices=2, without torchrun: this package's launcher.

LAUNCHED = (*LONG, "trainer.devices=2")


def test_ctrl_c_saves_and_leaves_no_process(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs")
    (process,) = run.start_until("epoch 1/500  ", *LAUNCHED)
    ranks = psutil.Process(process.pid).children()
    os.kill(process.pid or 0, signal.SIGINT)
    assert run.wait([process]) == [130]
    assert not any(rank.is_running() for rank in ranks)
    assert (run.result["status"], run.result["world_size"]) == ("interrupted", 2)
    assert run.result["reason"] == "SIGINT"
    assert f"train.py ckpt={run.folder}" in run.text
    assert "Traceback" not in run.text
    assert "death signal" not in run.text


def test_of_signals_those_that_change_something_are_handed_on() -> None:
    """A rank that ends already, by the first, would die of a late SIGHUP or SIGUSR1."""
    sent, statuses = list[int](), iter([None, 0])
    rank: Any = SimpleNamespace(send_signal=sent.append, poll=lambda: next(statuses))
    store: Any = SimpleNamespace(check=lambda keys: True)
    _supervise([rank], [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT], store)
    assert sent == [signal.SIGINT, signal.SIGINT]


def test_ranks_end_with_what_started_them(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs")
    (process,) = run.start_until("epoch 1/500  ", *LAUNCHED)
    ranks = psutil.Process(process.pid).children()
    os.kill(process.pid or 0, signal.SIGKILL)
    assert len(psutil.wait_procs(ranks, timeout=20)[0]) == 2
    assert run.wait([process]) == [-signal.SIGKILL]
    assert run.result["reason"] == "the process that led it was killed"


def test_two_machines_of_torchrun_are_one_run(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`train.py` and `-m alexnet_lit train` are its programs alike."""
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=1")
    machine = ("--nnodes=2", "--nproc-per-node=1", "--local-addr=127.0.0.1", *meeting)
    typed = [*LONG, "trainer.num_nodes=2", f"paths.logs={tmp_path / 'logs'}"]
    programs, elsewhere = ([str(REPOSITORY / "train.py")], ["-m", "alexnet_lit", "train"]), tmp_path / "else"
    elsewhere.mkdir()
    outputs = [tmp_path / f"{n}.txt" for n in range(2)]
    agents = []
    for output, program in zip(outputs, programs, strict=True):
        with output.open("w") as file:
            command = [sys.executable, "-m", "torch.distributed.run", *machine, *program, *typed]
            places: dict[str, Any] = {"stdout": file, "stderr": subprocess.DEVNULL, "cwd": elsewhere}
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
            agents.append(subprocess.Popen(command, env=environment, **places))
        request.addfinalizer(agents[-1].kill)
    deadline = time.monotonic() + 200
    while not any("epoch 1/500  " in output.read_text() for output in outputs):
        assert time.monotonic() < deadline
        assert all(agent.poll() is None for agent in agents)
        time.sleep(0.1)

    began = time.monotonic()
    for agent in agents:
        agent.send_signal(signal.SIGTERM)
    assert all(agent.wait(60) != 0 for agent in agents)
    assert time.monotonic() - began < 20
    silent, spoken = sorted((output.read_text() for output in outputs), key=len)
    assert silent == ""
    assert spoken.count("features.conv1") == spoken.count("SIGTERM: finishing this step, then saving") == 1
    assert "cpu, 2 processes on 2 machines" in spoken
    run = Runs(tmp_path / "logs")
    assert (run.result["status"], run.result["world_size"]) == ("interrupted", 2)
    assert run.result["images"] == 32 * run.result["steps"], "a batch is split over all ranks"
    assert (run.folder / "checkpoints" / "last.ckpt").is_file()
    assert len(list(run.folder.glob("events.out.*"))) == 1
    assert not list(elsewhere.iterdir())
