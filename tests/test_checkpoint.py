"""A run that is stopped and resumed is the run that was never stopped; checkpoints are whole, and of the right net."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from alexnet_lit.callbacks.checkpointing import AtomicFile
from alexnet_lit.config import lock_run
from alexnet_lit.lit import Classifier
from tests.conftest import Outcome, Train, small_run
from tests.runs import contents, saved, scalars, stop_at
from tests.sweep.tiny import QUIET

# Six epochs of four steps.
LENET = (
    *("data=sample", "model=lenet", "model.activation=relu", "model.dropout=0.2", "data.image_size=28"),
    *("data.batch_size=8", "data.train_size=32", "data.val_size=16", "trainer.accelerator=cpu", "logger=none"),
    *("trainer.max_epochs=6", "trainer.log_every_n_steps=1", "trainer.limit_test_batches=1", "~callbacks.progress"),
)
STALLED = ("callbacks=early_stopping", "optimizer.lr=0.0", "callbacks.early_stopping.patience=2")  # for three epochs
PLATEAU = ("scheduler=plateau", "scheduler.patience=1", "scheduler.threshold=0.9")


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs, not to be changed."""
    return small_run(tmp_path_factory.mktemp("two"), *LENET, "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that early stopping has ended after three epochs, not to be changed."""
    return small_run(tmp_path_factory.mktemp("stalled"), *LENET, *STALLED)


def last(folder: Path) -> dict[str, Any]:
    """What last.ckpt holds, without what differs between any two runs: times, and the folder."""
    content = saved(folder)
    del content["callbacks"]["Throughput"]["seconds"], content["callbacks"]["Throughput"]["training_seconds"]
    points = content["callbacks"]["CurvesPlot"]["points"]
    for tag in [tag for tag in points if "second" in tag]:
        del points[tag]
    del content["hyper_parameters"]
    return content


def assert_same(mine: Any, other: Any, place: str = "") -> None:
    """Equal in every number, tensors bit for bit."""
    if isinstance(other, dict):
        assert mine.keys() == other.keys(), place
        for key in other:
            assert_same(mine[key], other[key], f"{place}/{key}")
    elif isinstance(other, list | tuple):
        assert len(mine) == len(other), place
        for n, (one, another) in enumerate(zip(mine, other, strict=True)):
            assert_same(one, another, f"{place}/{n}")
    elif isinstance(other, torch.Tensor):
        assert torch.equal(mine, other), place
    else:
        assert mine == other, place


def assert_same_result(folder: Path, whole: Outcome) -> None:
    """In all that doesn't tell of time."""
    result = json.loads((folder / "result.json").read_text())
    keys = ("status", "epochs", "steps", "images", "val/acc_best", "val/loss", "train/loss", "test/acc", "test/loss")
    for key in keys:
        assert result[key] == whole.result[key], key


MATRIX = [  # steps of an epoch, and what is typed. All but the first two are for the whole suite
    (3, [*PLATEAU, "callbacks=[ema,early_stopping]", "trainer.limit_train_batches=3"]),
    (4, [*PLATEAU, "scheduler.monitor=train/loss", "trainer.max_epochs=-1", "trainer.max_steps=24", "optimizer=sgd"]),
    (4, [*PLATEAU, "trainer.check_val_every_n_epoch=2", "scheduler.patience=0"]),
    (2, [*PLATEAU, "trainer.val_check_interval=0.75", "trainer.accumulate_grad_batches=2"]),
    (4, [*STALLED, "callbacks.early_stopping.patience=8", "trainer.val_check_interval=0.5", "trainer.max_steps=40"]),
]


@pytest.mark.parametrize(
    ("epoch", "typed"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (n > 1), id=" ".join(row[1])) for n, row in enumerate(MATRIX)],
)
def test_a_resumed_run_is_one_that_never_stopped(epoch: int, typed: list[str], train: Train, tmp_path: Path) -> None:
    """Stopped in mid-epoch, and at an epoch's end."""
    arguments = [*LENET, *typed]
    whole = train(*arguments, logs=tmp_path / "whole").ok()
    if "trainer.check_val_every_n_epoch=2" in typed:  # there is no score before, and none is looked at twice
        rates = [rate for _, rate in last(whole.folder)["callbacks"]["CurvesPlot"]["points"]["lr"]]
        assert rates[::4] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4])

    for step in (2 * epoch - 1, 3 * epoch):
        with stop_at(step):
            stopped = train(*arguments, logs=tmp_path / "stopped")
        assert stopped.status == 130, stopped.err
        arguments = [f"ckpt={stopped.folder}"]
    folder = train(*arguments, logs=tmp_path / "stopped").ok().folder
    assert_same(last(folder), last(whole.folder))
    assert_same_result(folder, whole)


@pytest.mark.posix
def test_signals_of_clusters_stop_a_run_too_and_its_curves_go_on(train: Train, tmp_path: Path) -> None:
    arguments = [*LENET, "trainer.max_epochs=3", "logger=tensorboard", "~callbacks.board"]
    whole = train(*arguments, logs=tmp_path / "whole")
    for step, number in ((3, signal.SIGTERM), (7, signal.SIGUSR1)):
        with stop_at(step, number):
            stopped = train(*arguments, logs=tmp_path / "stopped")
        assert (stopped.status, stopped.err) == (130, "")
        assert (stopped.result["status"], stopped.result["reason"]) == ("interrupted", number.name)
        assert stopped.result["steps"] == step
        assert f"train.py ckpt={stopped.folder}" in stopped.out
        arguments = [f"ckpt={stopped.folder}"]

    resumed = train(*arguments, logs=tmp_path / "stopped")
    assert (resumed.status, resumed.err, resumed.folder) == (0, "", stopped.folder)
    for tag in ("train/loss", "val/loss", "lr"):
        assert scalars(resumed.folder)[tag] == scalars(whole.folder)[tag]
    assert_same_result(resumed.folder, whole)


def test_a_resumed_run_keeps_its_precision(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It warns that it is slow there, and ends with the weights of a run that was never stopped."""
    arguments = (*LENET, "trainer.max_epochs=2")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("alexnet_lit.nets.cost.bf16_units", lambda: "AMX")
        elsewhere.setattr("alexnet_lit.nets.cost.bf16_speedup", lambda net, shape: 3.0)
        whole = train(*arguments, logs=tmp_path / "whole")
        with stop_at(6):
            stopped = train(*arguments, logs=tmp_path / "stopped")
    assert "bf16-mixed\n        3.0 times as fast as float32 on this CPU (AMX); trainer.precision=32-true" in whole.out
    assert whole.result["precision"] == stopped.result["precision"] == "bf16-mixed"
    for module in ("alexnet_lit.nets.cost", "alexnet_lit.run"):
        monkeypatch.setattr(f"{module}.bf16_units", lambda: "")

    resumed = train(f"ckpt={stopped.folder}", logs=tmp_path / "stopped")
    assert (resumed.status, resumed.result["precision"]) == (0, "bf16-mixed"), resumed.err
    assert "warning: precision bf16-mixed: this CPU has no units for it: it takes many times as long" in resumed.out
    assert_same(last(resumed.folder), last(whole.folder))


def test_a_run_that_was_killed_before_its_test_trains_no_further(stalled: Path, train: Train, tmp_path: Path) -> None:
    """Early stopping had ended it."""
    folder = shutil.copytree(stalled, tmp_path / "logs" / "runs" / "stalled")
    (folder / "result.json").unlink()

    again = train(f"ckpt={folder}").ok()
    assert_same(last(folder), last(stalled))
    assert again.result["test/acc"] == json.loads((stalled / "result.json").read_text())["test/acc"]
    assert again.result["epochs"] == 3


def test_the_epoch_that_max_steps_ends_is_counted_once(train: Train, tmp_path: Path) -> None:
    """Resumed after its last step there is only the test to do; made longer, the epoch goes on."""
    outcome = train(*LENET, "scheduler=constant", "trainer.max_steps=6")
    assert (outcome.result["epochs"], outcome.result["steps"]) == (2, 6)
    again = train(f"ckpt={outcome.folder}", "trainer.limit_test_batches=2")
    assert (again.result["epochs"], again.result["steps"]) == (2, 6)

    longer = train(f"ckpt={outcome.folder}", "trainer.max_steps=9")
    assert "        with trainer.max_steps=9\n" in longer.out
    sizes = [path.stat().st_size for path in (longer.folder / "checkpoints").iterdir()]
    assert f"{sum(sizes) / 1e6:,.1f} MB in 2 files" in longer.out

    whole = train(*LENET, "scheduler=constant", "trainer.max_steps=9", logs=tmp_path / "whole")
    assert_same(last(longer.folder), last(whole.folder))
    assert longer.result["epochs"] == whole.result["epochs"] == 3


@pytest.mark.parametrize(
    ("typed", "epochs"),
    [
        (("callbacks.early_stopping.patience=4", "trainer.max_epochs=9"), 5),
        (("+trainer.min_epochs=6",), 6),
        (("~callbacks.early_stopping",), 6),
    ],
)
def test_an_early_end_goes_on(typed: Sequence[str], epochs: int, stalled: Path, train: Train, tmp_path: Path) -> None:
    """Early stopping has ended the run after three epochs. It counts on from there, as a whole run would."""
    folder = shutil.copytree(stalled, tmp_path / "logs" / "runs" / "stalled")
    longer = train(f"ckpt={folder}", *typed)
    assert (longer.status, longer.result["epochs"], longer.result["steps"]) == (0, epochs, 4 * epochs)
    assert "is complete" in train(f"ckpt={folder}").out


def test_a_run_goes_on_as_it_was_last_continued(train: Train) -> None:
    """And finishes an epoch that it has begun."""
    folder = train(*LENET, "trainer.max_epochs=1", "checkpoint.keep=0").folder
    with stop_at(7):
        assert train(f"ckpt={folder}", "trainer.max_epochs=3").status == 130
    line = f"trainer.max_epochs=1: ckpt={folder} has already begun epoch 2: use trainer.max_epochs=2 or more"
    assert train(f"ckpt={folder}", "trainer.max_epochs=1").refusal == line
    resumed = train(f"ckpt={folder}")
    assert (resumed.status, resumed.result["epochs"]) == (0, 3)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("trainer.max_epochs=1", "{key} has already done 2 epochs: use trainer.max_epochs=3 or more"),
        ("trainer.max_steps=7", "{key} has already done 8 steps: use trainer.max_steps=9 or more"),
        ("+trainer.min_epochs=50", "the run ends with trainer.max_epochs=2: use trainer.max_epochs=50 or more"),
        ("objective=val/loss", "can't be changed in a run that is resumed: leave it out, or start a new run"),
        (
            "callbacks=ema",
            "a run that is resumed has its callbacks already: set single keys of it, callbacks.<key>=...",
        ),
        ("budget=8s", "is for a new run, and {key} continues one: use trainer.max_steps=..."),
    ],
)
def test_what_a_run_can_not_go_on_with(typed: str, line: str, two_epochs: Path, train: Train) -> None:
    before = contents(two_epochs, but="train.log")
    line = f"{typed.removeprefix('+')}: {line.format(key=f'ckpt={two_epochs}')}"
    assert train(f"ckpt={two_epochs}", "trainer.max_epochs=2", typed).refusal == line
    with lock_run(two_epochs):
        assert "this run is still running: wait" in train(f"ckpt={two_epochs}", "trainer.max_epochs=3").refusal
    assert contents(two_epochs, but="train.log") == before


def test_in_another_folder_best_is_chosen_anew(two_epochs: Path, train: Train, tmp_path: Path) -> None:
    """By another objective, or by the same: the score to beat is of a net that is not there."""
    file = tmp_path / "last.ckpt"
    shutil.copy(two_epochs / "checkpoints" / "last.ckpt", file)
    content = torch.load(file, weights_only=True)
    content["callbacks"]["Checkpoints"]["best_score"] = 1.0
    torch.save(content, file)
    for objective in ("objective=val/acc", "objective=val/loss"):
        direction = "minimize" if objective == "objective=val/loss" else "maximize"
        typed = (objective, f"direction={direction}", "trainer.max_epochs=3", f"ckpt={file}")
        outcome = train(*LENET, *typed, logs=tmp_path / direction).ok()
        assert saved(outcome.folder, "best")["global_step"] == 12


def test_bests_of_a_repeated_epoch_are_kept_once(train: Train) -> None:
    """The run ended as it saved the best, or before it saved the epoch. Of equal scores the later is best."""
    with stop_at(9):
        folder = train(*LENET, "optimizer.lr=0.0", "checkpoint.keep=2", "trainer.max_epochs=3").folder
    last = folder / "checkpoints" / "last.ckpt"
    earlier = last.read_bytes()
    with mock.patch.object(AtomicFile, "save_checkpoint", side_effect=RuntimeError), pytest.raises(RuntimeError):
        train(f"ckpt={folder}")
    assert [saved(folder, name)["global_step"] for name in ("best", "best_2")] == [8, 4]
    assert train(f"ckpt={folder}").status == 0
    last.write_bytes(earlier)
    (folder / "result.json").unlink()
    assert train(f"ckpt={folder}").status == 0
    assert [saved(folder, name)["global_step"] for name in ("best", "best_2")] == [12, 8]


def test_where_no_best_is_kept_any_more_the_last_net_is_tested(train: Train, verb: Train) -> None:
    folder = train(*LENET, "trainer.max_epochs=1").folder
    outcome = train(f"ckpt={folder}", "trainer.max_epochs=2", "checkpoint.keep=0", "trainer.limit_test_batches=1.0")
    found = json.loads(verb("evaluate", str(folder / "checkpoints" / "last.ckpt"), "--json").out)
    assert outcome.result["test/loss"] == found["test/loss"]
    assert (folder / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize("cut", [".hydra/resume_1/config.yaml", "result.json"])
def test_what_a_full_disk_has_cut_short_stops_nothing(cut: str, train: Train) -> None:
    with stop_at(2):
        folder = train(*LENET, "trainer.max_epochs=1").folder
    (folder / cut).parent.mkdir(exist_ok=True)
    (folder / cut).write_bytes(b"")
    train(f"ckpt={folder}").ok()
    assert '"trainer": {' not in train(f"ckpt={folder}", "--cfg", "job", "--package", "model").ok().out


def test_a_stop_before_anything_is_new_keeps_the_result(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_at(2):
        stopped = train(*LENET)
    before = stopped.result
    monkeypatch.setattr(Classifier, "on_fit_start", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert train(f"ckpt={stopped.folder}").status == 130
    assert stopped.result == before


def test_an_epoch_that_max_steps_ends_has_its_loss_also_after_a_stop_in_the_test(train: Train, tmp_path: Path) -> None:
    typed = (*LENET, "trainer.max_steps=6")
    whole = train(*typed, logs=tmp_path / "whole").ok()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_test_batch_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM), raising=False)
        stopped = train(*typed)
    assert stopped.status == 130
    assert train(f"ckpt={stopped.folder}").ok().result["train/loss"] == whole.result["train/loss"]


@pytest.mark.posix
def test_a_lock_left_behind_where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(errno.ENOSYS, "")))
    (tmp_path / ".running.lock").write_text("4711\nanother_machine")
    with lock_run(tmp_path):
        pass


def test_a_schedule_that_keeps_its_length_is_not_made_longer(train: Train, tmp_path: Path) -> None:
    (tmp_path / "conf" / "scheduler").mkdir(parents=True)
    lines = ("_target_: torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_: true", "T_max: run_steps")
    (tmp_path / "conf" / "scheduler" / "cosine.yaml").write_text("\n".join([*lines, "interval: step"]))
    with stop_at(2):
        outcome = train("--config-dir", str(tmp_path / "conf"), *LENET, "scheduler=cosine", "trainer.max_epochs=1")
    refusal = train(f"ckpt={outcome.folder}", "trainer.max_epochs=3").refusal
    assert refusal.startswith(f"ckpt={outcome.folder}: scheduler.T_max was 4 and would be 12, to which that")
    resumed = train(f"ckpt={outcome.folder}").ok()
    assert (resumed.result["steps"], saved(resumed.folder, "last")["lr_schedulers"][0]["_last_lr"]) == (4, [0.0])


def test_a_checkpoint_of_another_net_is_refused(train: Train, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    shutil.copy(train(*QUIET).folder / "checkpoints" / "last.ckpt", file)
    lenet = f"ckpt={file}: is of another net"
    for typed, line in (
        (["model.lrn=true", "model.dropout=0.25"], "model.dropout=0.0, model.lrn=false: set these, or start a new run"),
        (["model.activation=relu"], "model.activation=sigmoid: set these, or start a new run"),
    ):
        assert train(*QUIET, *typed, f"ckpt={file}").refusal == f"{lenet}, with {line}"
    line = f"ckpt={file}: is of another run, with optimizer.lr="
    assert train(*QUIET, "optimizer.lr=3", f"ckpt={file}").refusal.startswith(line)

    outcome = train(*QUIET, "trainer.max_epochs=2", "model.init=kaiming", f"ckpt={file}", logs=tmp_path / "more")
    assert (outcome.status, outcome.result["steps"]) == (0, 4), outcome.err
    missing = outcome.folder / "checkpoints" / "lsat.ckpt"
    assert train(f"ckpt={missing}").refusal.startswith(f"ckpt={missing}: there is no such file: name a run folder")
    missing.with_name("last.ckpt").unlink()
    assert train(f"ckpt={outcome.folder}", "trainer.max_epochs=9").refusal.endswith("last.ckpt: start the run anew")

    checkpoint = torch.load(file, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] = torch.zeros(7, 3)
    torch.save(checkpoint, file)
    outcome = train(*QUIET, f"ckpt={file}")
    assert outcome.refusal.startswith(f"{lenet}: RuntimeError: Error(s) in loading state_dict for Classifier: size mi")
    assert f"for {name}" in outcome.refusal
    assert not [path for path in (outcome.logs / "runs").iterdir() if not (path / "result.json").exists()]
