"""A result is true, stays until there is another, and no run is written over an earlier one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from alexnet_lit.config import read_result
from alexnet_lit.distributed.launch import Failure
from alexnet_lit.lit import Classifier
from alexnet_lit.run import write_result
from alexnet_lit.sweep.jobs import read_job
from tests.conftest import Outcome, Train, small_run
from tests.runs import contents
from tests.sweep.tiny import TINY


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps, not to be changed."""
    return small_run(tmp_path_factory.mktemp("two"), *TINY, "callbacks=none")


@pytest.fixture
def completed(two_steps: Path, tmp_path: Path) -> Outcome:
    """A copy of it."""
    shutil.copytree(two_steps, tmp_path / "first" / "runs" / two_steps.name)
    return Outcome(0, "", "", tmp_path / "first")


def fail_at(batches: int, monkeypatch: pytest.MonkeyPatch, error: BaseException, seen: list[str], run: Path) -> None:
    """Let training raise at that batch, and note what the run's folder tells a sweep then."""
    step, count = Classifier.training_step, 0

    def training_step(module: Classifier, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == batches:
            seen.append(read_job(run).status)
            seen.append(json.loads((run / "result.json").read_text())["status"])
            raise error
        return step(module, *arguments)

    monkeypatch.setattr(Classifier, "training_step", training_step)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_a_continuation_that_comes_to_nothing_leaves_the_result(
    error: BaseException, completed: Outcome, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, seen = completed.folder, (completed.folder / "result.json").read_bytes(), list[str]()
    fail_at(1, monkeypatch, error, seen, folder)
    longer = (f"ckpt={folder}", "trainer.max_epochs=2")

    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a bug"):
            train(*longer)
    else:
        assert train(*longer).status == 130
    assert seen == ["unfinished", "completed"], "a process that was killed here would have left the same"
    assert (folder / "result.json").read_bytes() == before
    assert read_job(folder).status == "completed"
    assert read_result(folder)["status"] == "completed"


def test_a_continuation_fails_after_steps(completed: Outcome, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, before, seen = completed.folder, (completed.folder / "result.json").read_bytes(), list[str]()
    with monkeypatch.context() as patch:
        fail_at(2, patch, RuntimeError("a bug"), seen, folder)
        with pytest.raises(RuntimeError, match="a bug"):
            train(f"ckpt={folder}", "trainer.max_epochs=2", "checkpoint.every_steps=1")
    assert (folder / "result.json").read_bytes() == before
    assert (read_job(folder).status, read_job(folder).can_resume) == ("unfinished", True)
    assert not read_result(folder), "so that it goes on without a longer length too"

    outcome = train(f"ckpt={folder}", "trainer.max_epochs=2", logs=completed.logs).ok()
    assert (outcome.result["status"], outcome.result["steps"]) == ("completed", 4)
    assert read_job(folder).status == "completed"
    assert not list(folder.glob("*.part"))


def test_processes_that_fail(completed: Outcome, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, before = completed.folder, (completed.folder / "result.json").read_bytes()
    failure = Failure(rank=1, reason="rank 1 was killed", killed=True)
    monkeypatch.setattr("alexnet_lit.run.launch", lambda *_, **__: (failure, False))

    outcome = train(f"ckpt={folder}", "trainer.max_epochs=2", "trainer.devices=2")
    assert outcome.status == 1
    assert "rank 1 was killed" in outcome.out
    assert (folder / "result.json").read_bytes() == before
    assert read_job(folder).status == "completed"


def test_a_result_follows_one_that_was_cut_short(tmp_path: Path) -> None:
    (tmp_path / "result.json.part").write_text('{"status": "comp')
    write_result({"status": "interrupted"}, tmp_path)
    assert read_result(tmp_path) == {"status": "interrupted"}


@pytest.mark.parametrize("left", ["checkpoints", "result.json"])
def test_a_run_is_not_written_over_another(left: str, completed: Outcome, train: Train) -> None:
    """Whatever is left of it."""
    folder = completed.folder
    for path in folder.iterdir():
        if path.name != left:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    before = contents(folder)

    outcome = train(*TINY, "trainer.fast_dev_run=true", f"hydra.run.dir={folder}")

    way_out = f"name another folder, or resume that one with ckpt={folder}"
    assert outcome.refusal == f"hydra.run.dir={folder}: holds a run already: {way_out}"
    assert contents(folder) == before


def test_a_folder_that_is_named_is_made(train: Train, tmp_path: Path) -> None:
    train(*TINY, "logger=none", "callbacks=none", f"hydra.run.dir={tmp_path / 'named'}").ok()
    assert json.loads((tmp_path / "named" / "result.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("typed", ["~callbacks", "callbacks.progress=null"])
def test_a_run_without_callbacks_says_nothing_between(typed: str, train: Train) -> None:
    outcome = train(*TINY, typed, "trainer.log_every_n_steps=0", "logger=null").ok()
    assert (outcome.result["status"], outcome.result["steps"]) == ("completed", 2)
    assert "epoch" not in outcome.out.lower()
    assert "|" not in outcome.out
    assert (outcome.folder / "checkpoints" / "last.ckpt").exists()
