"""`python -m alexnet_lit bench recipes`: processes that fail, are stopped, and go on; and the records of them."""

import math
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alexnet_lit.tools.bench import recipes
from alexnet_lit.tools.bench.recipes import RECIPES, bench_recipes
from alexnet_lit.tools.bench.timing import machine
from alexnet_lit.tools.records import read
from tests.processes import Runs
from tests.sweep.tiny import QUIET, REASON, REFUSED
from tests.trouble import trouble

Stops = list[tuple[Path, BaseException]]


def bench(tmp_path: Path, *names: str, minutes: float = math.inf, seeds: int = 1) -> int:
    places = {"out": tmp_path / "records.jsonl", "logs": tmp_path / "logs"}
    deadline = time.monotonic() + 60 * minutes
    return bench_recipes([*names], seeds=seeds, deadline=deadline, device="auto", **places)


@pytest.fixture(autouse=True)
def stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stops:
    """Runs are in processes that have imported everything, on a CPU.

    Of the first ones the first wait ends as one of these says: with an error, once a file is gone.
    """
    stops: Stops = []

    class Process:
        def __init__(self, command: list[str], **_: Any) -> None:
            (self.process,) = Runs(tmp_path / "runs").start(*command[4:])
            self.terminate, self.kill = self.process.terminate, self.process.kill
            self.stop = stops.pop(0) if stops else None

        def wait(self, timeout: float | None = None) -> int | None:
            if self.stop:
                (ahead, error), self.stop = self.stop, None
                while ahead.exists() and self.process.is_alive():
                    time.sleep(0.05)
                raise error
            self.process.join(timeout)
            return self.process.exitcode

    fake = SimpleNamespace(Popen=Process, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(recipes, "subprocess", fake)
    monkeypatch.setattr(recipes, "device_type", lambda _: "cpu")
    return stops


@pytest.mark.slow
def test_one_that_fails_says_so_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(RECIPES, "quick", [*QUIET, *REFUSED])
    monkeypatch.setitem(RECIPES, "fast", [*QUIET])
    assert bench(tmp_path, "quick", "fast") == 1

    failed, done = read(tmp_path / "records.jsonl")
    assert failed["status"] == "failed"
    assert failed["reason"].startswith(REASON)
    assert done["command"] == " ".join(["python train.py", *QUIET, "seed=0 trainer.accelerator=cpu"])
    assert (done["status"], done["images"], done["steps"], done["seed"]) == ("completed", 16, 2, 0)
    assert done["machine"] == machine("cpu")
    assert {"date", "commit", "versions", "test/acc", "val/acc_best", "seconds"} <= set(done)
    out = capfd.readouterr().out
    assert out.index(f"1 of 2  {failed['command']}\n") < out.index(f"2 of 2  {done['command']}\n")
    assert out.endswith(f"not recorded yet (run the same command again):\n  {failed['command']}\n")
    assert bench(tmp_path, "fast") == 0
    assert len(read(tmp_path / "records.jsonl")) == 2, "what is recorded is not run again"


@pytest.mark.slow
def test_one_that_is_stopped_goes_on(stops: Stops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First when its time is over, after its first step; then by Ctrl-C, after its third."""
    late, pressed = tmp_path / "late", tmp_path / "pressed"
    stops += [(late, subprocess.TimeoutExpired("", 0)), (pressed, KeyboardInterrupt())]
    troubles = [trouble("wait", late, at=0), trouble("wait", pressed, job=0, at=2)]
    short = [text.replace(" ", "") for text in (*QUIET, "data.train_size=32", *troubles)]
    monkeypatch.setitem(RECIPES, "quick", short)
    assert [bench(tmp_path, "quick"), bench(tmp_path, "quick"), bench(tmp_path, "quick")] == [0, 130, 0]

    stopped, done = read(tmp_path / "records.jsonl")
    assert (stopped["status"], stopped["steps"], stopped["reason"]) == ("interrupted", 1, "SIGTERM")
    assert (done["status"], done["steps"], done["images"]) == ("completed", 4, 32)
    assert (tmp_path / "logs" / "quick_seed-0" / "0" / "train.log").read_text().count("resume  ") == 2


def test_a_short_time_goes_first_to_what_matters_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the list of what is left of a time that is over at once has it."""
    monkeypatch.setattr(recipes, "machine", lambda kind: kind)

    def left() -> list[str]:
        assert bench(tmp_path, minutes=0, seeds=3) == 0
        assert not list(tmp_path.iterdir()), "nothing is started, so nothing is recorded"
        return [line.strip() for line in capfd.readouterr().out.splitlines()[2:]]

    names = [f"experiment={name} " * (name != "default") for name in RECIPES]
    assert left() == [f"python train.py {name}seed={n} trainer.accelerator=cpu" for name in names for n in range(3)]
    monkeypatch.setattr(recipes, "device_type", lambda _: "cuda")
    assert left()[:2] == ["python -m pytest -m gpu", "python train.py experiment=best seed=0"]
