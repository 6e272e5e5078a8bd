"""A run from the command line: what it does, leaves behind, and how it starts again."""

import os
from pathlib import Path

import pytest
import torch

import alexnet_lit
from tests.conftest import REPOSITORY, SMALL, Outcome, Train, python
from tests.processes import Runs
from tests.runs import contents, equal, scalars, weights
from tests.sweep.tiny import jobs_of, result_of, sweep_of
from tests.trouble import trouble

pytestmark = pytest.mark.slow

SCORES = {f"{stage}/{name}" for stage in ("train", "val", "test") for name in ("loss", "acc")} | {"val/acc_best"}
KEYS = (SCORES - {"train/acc"}) | {
    *("val/loss_best", "status", "epochs", "steps", "images", "seconds", "images_per_second", "params", "seed"),
    *("device", "world_size", "precision", "overrides", "versions", "commit"),
}
SCALARS = SCORES | {"lr", "grad_norm", "images_per_second", "seconds"}
# Two epochs of four steps of a LeNet: milliseconds.
LENET = (
    *("model=lenet", "model.activation=relu", *SMALL, "data.image_size=28", "optimizer=sgd"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=2", "trainer.limit_test_batches=4"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run in a process of its own, started in another folder, that everything below looks at."""
    logs = tmp_path_factory.mktemp("finished")
    done = python(str(REPOSITORY / "train.py"), *LENET, "name=short", f"paths.logs={logs}", cwd=logs)
    return Outcome(done.returncode, done.stdout, done.stderr, logs).ok()


def test_a_run_leaves_what_the_readme_lists(finished: Outcome) -> None:
    files = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.")}
    assert len(events) == 1
    assert files - events == {
        *(".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"),
        *("train.log", "curves.png", "result.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    }
    assert finished.folder.name.endswith("_short")
    assert [path.name for path in finished.logs.iterdir()] == ["runs"]


def test_result_json_and_every_curve_against_the_global_step(finished: Outcome) -> None:
    result = finished.result
    assert result.keys() == KEYS
    assert (result["status"], result["epochs"], result["steps"], result["images"]) == ("completed", 2, 8, 256)
    assert (result["params"], result["overrides"][:2]) == (61_706, ["model=lenet", "model.activation=relu"])
    assert 0 < result["test/acc"] < 1
    assert result["val/acc_best"] >= result["val/acc"]
    assert result["val/loss_best"] == min(value for _, value in scalars(finished.folder)["val/loss"])
    assert all(result[name] > 0 for name in ("seconds", "images_per_second", "test/loss", "val/loss", "train/loss"))

    curves = scalars(finished.folder)
    assert curves.keys() == SCALARS
    steps = {tag: [step for step, _ in points] for tag, points in curves.items()}
    assert steps["train/loss"] == steps["lr"] == steps["grad_norm"] == [2, 4, 6, 8]
    assert steps["val/loss"] == steps["val/acc_best"] == [4, 8]
    assert steps["test/acc"] == steps["seconds"] == [8]
    assert curves["test/acc"][0][1] == pytest.approx(result["test/acc"])
    assert 0 < curves["lr"][-1][1] < 0.02


def test_the_console_says_what_there_is_to_know(finished: Outcome) -> None:
    for text in (
        *(f"\ntest accuracy             {finished.result['test/acc']:.4f}", "\nbest validation accuracy  0."),
        *(f"\nrun folder                {finished.folder}", f"\ncheckpoint                {finished.folder}/c"),
        *("cpu", "32-true", "128 training, 64 validation, 500 test images", "28 px -> 28 px", "61,706"),
        *("epoch 2/2", "test accuracy", "best.ckpt", "tensorboard --logdir"),
    ):
        assert text in finished.out
    for chatter in ("Tip", "GPU available", "litlogger", "deprecated", "warning", "\x1b"):
        assert chatter not in finished.out
    assert "test accuracy" in (finished.folder / "train.log").read_text()


def test_the_same_command_gives_the_same_weights(finished: Outcome, train: Train) -> None:
    again = train(*LENET, "logger=none")
    assert equal(weights(again.folder), weights(finished.folder))
    for name in ("test/acc", "test/loss", "val/loss", "train/loss"):
        assert again.result[name] == finished.result[name]


@pytest.mark.parametrize(
    ("typed", "looks"),  # the last is at the last net, on as many images as the test has: else the test follows
    [("trainer.max_epochs=2", [4, 8]), ("trainer.max_steps=6", [4, 6]), ("trainer.limit_val_batches=2", [4, 8, 8])],
)
def test_evaluating_on_test_images_as_the_course_does(typed: str, looks: list[int], train: Train) -> None:
    outcome = train("experiment=d2l", *LENET, "data.val_size=0", "trainer.limit_val_batches=4", typed).ok()
    curves = scalars(outcome.folder)
    assert "val/acc" not in curves
    assert [step for step, _ in curves["test/acc"]] == looks
    assert "test images are evaluated after each epoch" in outcome.out
    assert outcome.result["val/acc"] is None
    assert outcome.result["test/acc"] == pytest.approx(curves["test/acc"][-1][1])
    assert not (outcome.folder / "checkpoints" / "best.ckpt").exists()


def test_all_images_for_training_and_csv_instead_of_tensorboard(train: Train) -> None:
    outcome = train(*LENET, "data.val_size=0", "objective=null", "logger=csv").ok()
    assert outcome.result["val/acc"] is None
    assert outcome.result["test/acc"] is not None
    assert "test/acc" in (outcome.folder / "metrics.csv").read_text()
    assert not list(outcome.folder.glob("events.out.*"))


def test_what_ends_the_process_ends_the_run_alone(train: Train) -> None:
    """`sys.exit(3)` in a callback or a net: the next job of a sweep runs all the same."""
    outcome = train("-m", *LENET, "logger=none", trouble("exit"), "seed=0,1")
    assert outcome.status == 1
    results = [result_of(job) for job in jobs_of(sweep_of(outcome))]
    assert [(result["status"], result["reason"]) for result in results] == [("failed", "exited with status 3")] * 2
    assert outcome.err.count("sys.exit(3)") == outcome.err.count("Traceback") == 2


def test_a_finished_run_is_left_alone_unless_more_is_asked_for(finished: Outcome, train: Train) -> None:
    before = contents(finished.folder, but="train.log")
    again = train(f"ckpt={finished.folder}")
    assert (again.status, "is complete" in again.out) == (0, True)
    for typed in ("optimizer=adamw", "model.lrn=true", "-m"):  # what a checkpoint holds the state of stays
        assert typed in train(f"ckpt={finished.folder}", "trainer.max_epochs=9", typed).refusal
    assert contents(finished.folder, but="train.log") == before


def test_gradients_are_clipped_for_fused_optimizers_under_bf16(train: Train) -> None:
    """Steps of that length leave the weights where they were."""
    outcome = train(
        *(*LENET, "logger=none"),
        *("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1e-30", "trainer.max_steps=2"),
        *("optimizer.fused=true", "optimizer.weight_decay=0", "optimizer.momentum=0", "optimizer.nesterov=false"),
    )
    assert (outcome.status, outcome.err, outcome.result["precision"]) == (0, "", "bf16-mixed")
    torch.manual_seed(0)
    fresh = alexnet_lit.build_net(alexnet_lit.compose(*LENET)).state_dict()
    for name, value in fresh.items():
        torch.testing.assert_close(weights(outcome.folder)[f"net.{name}"], value, rtol=0, atol=1e-20)


def with_bf16_units() -> None:
    """A CPU that has them, for rank 0 or a process alone."""
    if os.environ.get("RANK", "0") == "0":
        patch = pytest.MonkeyPatch()
        patch.setattr("alexnet_lit.nets.cost.bf16_units", lambda: "AMX")
        patch.setattr("alexnet_lit.nets.cost.bf16_speedup", lambda net, shape: 3.0)


def test_two_ranks_learn_in_bf16_what_one_learns(tmp_path: Path) -> None:
    """The second, whose CPU has no units for bf16, has the precision that the first chose."""
    typed = (*LENET, "trainer.max_epochs=1", "data.augment.mirror=false", "optimizer.lr=0.005", "logger=none")
    one, two = (Runs(tmp_path / str(ranks), ranks=ranks) for ranks in (1, 2))
    for run in (one, two):
        assert set(run(*typed, before=with_bf16_units)) == {0}, run.text
        assert run.result["precision"] == "bf16-mixed"
    for name, value in weights(two.folder).items():
        assert torch.allclose(value, weights(one.folder)[name], rtol=0.02, atol=2e-3), name
