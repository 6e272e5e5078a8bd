"""Runs found in folders, their curves, and the experiments that they make up."""

import math
from pathlib import Path

import pytest

from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.errors import UserError
from alexnet_lit.tools.report.runs import UNFINISHED, find_baseline, group_runs, read_curves, read_run, read_runs
from tests.tools.report.made import events, run

VALUES = [({"train/loss": 2.0}, 5, 3.0), ({"train/loss": 1.5, "val/acc": 0.5}, 10, 7.0), ({"val/acc": 0.75}, 20, 9.0)]


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag."""
    return {tag: [*curve.items()] for tag, curve in read_curves(folder).items()}


@pytest.mark.posix
def test_all_runs_below_in_the_order_of_their_numbers_each_once(tmp_path: Path) -> None:
    for name in ("sweeps/a/0_x", "sweeps/a/10_x", "sweeps/a/2_x", "runs/b", "sweeps/a/earlier/2_x", "sweeps/a/.x/3_x"):
        run(tmp_path / name)
    (tmp_path / "sweeps" / "a" / "summary.md").touch()
    (tmp_path / "sweeps" / "b").symlink_to(tmp_path / "sweeps" / "a")
    found = read_runs([str(tmp_path / "sweeps" / "a" / "2_x"), str(tmp_path)])["folder"]
    names = [folder.relative_to(tmp_path).as_posix() for folder in found]
    assert names == ["sweeps/a/2_x", "runs/b", "sweeps/a/0_x", "sweeps/a/10_x"]


def test_a_result_is_taken_as_it_is(tmp_path: Path) -> None:
    found = read_run(
        run(tmp_path / "x", "+model.lrn=True", "seed=3", "data.fold=1", seed=3, test=0.5, curve=(0.4, 0.5))
    )
    assert (found["status"], found["seed"], found["fold"], found["images_per_step"]) == ("completed", "3", "1", 32)
    assert found["overrides"] == {"model.lrn": "true", "seed": "3", "data.fold": "1"}
    assert found["test/acc"] == 0.5
    assert math.isnan(found["val/acc_best"])


def test_without_a_result_a_run_is_unfinished_and_hydra_s_record_tells_its_overrides(tmp_path: Path) -> None:
    found = read_run(run(tmp_path / "4", "idea=lrn", "data.fold=4", "seed=12", status=None, curve=(0.4, 0.5)))
    assert (found["status"], found["steps"], found["overrides"]["idea"]) == (UNFINISHED, 20, "lrn")
    assert (found["seed"], found["fold"]) == ("12", "4")
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    assert read_run(tmp_path / "begun")["remark"] == "no result.json"
    # One that has gone on since its result was written.
    run(tmp_path / "x", status="interrupted", curve=(0.4,))
    assert read_run(tmp_path / "x")["status"] == "interrupted"
    events(tmp_path / "x" / "events.out.tfevents.2", [({"train/loss": 1.0}, 15, 20.0)], restart=10)
    assert read_run(tmp_path / "x")["status"] == UNFINISHED


def test_a_file_that_is_cut_anywhere_has_what_stands_before(tmp_path: Path) -> None:
    file = events(tmp_path / "events.out.tfevents.1", VALUES, began=1.0)
    expected = {"train/loss": [(5, 2.0), (10, 1.5)], "val/acc": [(10, 0.5), (20, 0.75)]}
    assert points(tmp_path) == expected
    whole, lengths = file.read_bytes(), set()
    for length in range(0, len(whole), 3):
        file.write_bytes(whole[:length])
        found = points(tmp_path)
        assert all(curve == expected[tag][: len(curve)] for tag, curve in found.items())
        lengths.add(tuple(len(found.get(tag, ())) for tag in expected))
    assert lengths == {(0, 0), (1, 0), (2, 1)}


def test_reads_what_the_logger_writes_and_rewinds(tmp_path: Path) -> None:
    for first, value in ((1, 0.25), (2, 0.5)):
        logger = TensorBoard(run_dir=str(tmp_path))
        if first == 2:
            logger.rewind(2)
        for step in range(first, 4):
            logger.log_metrics({"val/acc": value, "lr": 0.1, "epoch": 1, "val/loss": math.nan}, step=step)
        logger.experiment.close()
        if first == 1:  # names of event files have whole seconds in them
            for file in tmp_path.iterdir():
                file.rename(tmp_path / "events.out.tfevents.1000000000.host")
    curves = points(tmp_path)
    assert list(curves) == ["val/acc"]
    assert curves["val/acc"] == [(1, 0.25), (2, 0.5), (3, 0.5)]


def test_runs_that_differ_in_the_seed_are_one_experiment(tmp_path: Path) -> None:
    for n, (lrn, seed) in enumerate([("false", 0), ("true", 0), ("false", 1), ("true", 1)]):
        run(tmp_path / f"{n}_model.lrn-{lrn}_seed-{seed}", "data=sample", f"model.lrn={lrn}", f"name=n{n}", seed=seed)
    run(tmp_path / "4", "data=sample", "model.lrn=true", "seed=2", status=None, curve=(0.5,))
    experiment, overrides, labels, common = group_runs(read_runs([str(tmp_path)]))
    assert labels == ["model.lrn=false", "model.lrn=true"]
    assert experiment.tolist() == [0, 1, 0, 1, 1]
    assert (overrides, common) == ([{"model.lrn": "false"}, {"model.lrn": "true"}], {"data": "sample"})


def test_the_baseline_is_named_or_base_or_the_first() -> None:
    labels = ["model.lrn=false", "model.lrn=true", "model.lrn=true x=1"]
    assert find_baseline(labels, None) == 0
    assert find_baseline([*labels, "idea=base"], None) == 3
    assert find_baseline(labels, "lrn=false") == 0
    assert find_baseline(labels, "model.lrn=true") == 1, "the one that is called so, not one that has it in its name"
    with pytest.raises(UserError, match=r"--baseline=true: several are called so: .*lrn=true, model.lrn=true x=1"):
        find_baseline(labels, "true")
    with pytest.raises(UserError, match=r"--baseline=y: none is called so: there are model.lrn=false, .*"):
        find_baseline(labels, "y")
