"""Runs found in folders, their curves, the experiments that they make up, and statistics against printed tables."""

import math
from pathlib import Path

import pytest

from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.errors import UserError
from alexnet_lit.tools.report.figures import learning_curve
from alexnet_lit.tools.report.runs import find_baseline, group_runs, read_curves, read_run, read_runs
from alexnet_lit.tools.report.statistics import IDEAS, Difference, Study, holm, welch
from tests.conftest import REPOSITORY
from tests.tools.report.made import events, run

VALUES = [({"train/loss": 2.0}, 5), ({"train/loss": 1.5, "val/acc": 0.5}, 10), ({"val/acc": 0.75}, 20)]


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


def test_without_a_result_a_run_is_unfinished_and_hydra_s_record_tells_its_overrides(tmp_path: Path) -> None:
    found = read_run(run(tmp_path / "4", "idea=lrn", "data.fold=4", "seed=12", status=None, curve=(0.4, 0.5)))
    assert (found["status"], found["steps"], found["overrides"]["idea"]) == ("unfinished", 20, "lrn")
    assert (found["seed"], found["fold"]) == ("12", "4")
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    assert read_run(tmp_path / "begun")["remark"] == "no result.json: at work still, or killed"
    # One that has gone on since its result was written.
    run(tmp_path / "x", status="interrupted", curve=(0.4,))
    assert read_run(tmp_path / "x")["status"] == "interrupted"
    (tmp_path / "x" / "result.json.part").touch()
    events(tmp_path / "x" / "events.out.tfevents.2", [({"train/loss": 1.0}, 15)], restart=10)
    found = read_run(tmp_path / "x")
    assert (found["status"], found["steps"]) == ("unfinished", 15)


def test_a_file_that_is_cut_anywhere_has_what_stands_before(tmp_path: Path) -> None:
    file = events(tmp_path / "events.out.tfevents.1", VALUES)
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


def study(folder: Path) -> Study:
    return Study(read_runs([str(folder)]), baseline=None)


def test_welch_with_equal_and_with_unequal_spreads() -> None:
    # Standard error sqrt(1/3 + 1/3), 4 degrees of freedom: the table has t(0.975) = 2.776, and |t| = 3.674.
    half = 2.776 * (2 / 3) ** 0.5
    found = welch([1, 2, 3], [4, 5, 6])
    assert found == pytest.approx((-3, -3 - half, -3 + half, 0.0213), rel=2e-3)
    # One has no spread: standard error sqrt(1/3), 2 degrees of freedom, t(0.975) = 4.303.
    half = 4.303 * (1 / 3) ** 0.5
    unequal = welch([1, 2, 3], [5, 5])
    assert unequal[:3] == pytest.approx((-3, -3 - half, -3 + half), rel=1e-3)
    # Where n does not allow it there is no interval.
    assert welch([0.5], [0.25, 0.5]) == pytest.approx(Difference(0.125), nan_ok=True)
    assert welch([0.5, 0.5], [0.25, 0.25]) == pytest.approx(Difference(0.25), nan_ok=True)
    assert math.isnan(welch([], [1, 2]).value)
    assert math.isnan(welch([1, 2], []).value)
    # Holm's correction: the more comparisons, the less each says.
    assert holm([0.01, math.nan, 0.04, 0.03]).tolist() == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert (holm([0.02]).tolist(), holm([0.9, 0.8]).tolist(), holm([]).tolist()) == ([0.02], [1, 1], [])


def test_a_seed_counts_once_and_only_if_it_completed(tmp_path: Path) -> None:
    for n, (seed, status, test) in enumerate([(0, "completed", 0.1), (1, "diverged", 0.2), (1, "completed", 0.5)]):
        run(tmp_path / str(n), "x=1", f"seed={seed}", seed=seed, status=status, test=test)
    run(tmp_path / "again", "x=1", "seed=0", seed=0, test=0.9)
    found = study(tmp_path).spread["test/acc"].loc[0]
    assert found.tolist() == pytest.approx([2, 0.7, 0.2 * 2**0.5])


def test_a_band_over_seeds_in_images_up_to_where_all_are(tmp_path: Path) -> None:
    run(tmp_path / "a" / "0", "x=1", seed=0, curve=(0.25, 0.5, 0.75))
    run(tmp_path / "a" / "1", "x=1", seed=1, curve=(0.5, 1.0))
    run(tmp_path / "a" / "2", "x=1", seed=2, status="diverged", curve=(0.0, 0.125))
    band, (diverged,) = learning_curve(study(tmp_path / "a").runs, "val/acc", by_images=True)
    first, second = {"mean": 0.375, "low": 0.25, "high": 0.5}, {"mean": 0.75, "low": 0.5, "high": 1.0}
    assert band.to_dict("index") == {320: first, 640: second}
    assert diverged.to_dict() == {320: 0, 640: 0.125}
    # Points between are filled in.
    for seed, steps in enumerate(((0, 10, 20), (0, 20))):
        folder = run(tmp_path / "b" / str(seed), "x=1", seed=seed, steps=20)
        events(folder / "events.out.tfevents.1", [({"val/acc": step / 20}, step) for step in steps])
    band, _ = learning_curve(study(tmp_path / "b").runs, "val/acc", by_images=False)
    assert band["mean"].to_dict() == {0: 0, 10: 0.5, 20: 1}


def test_who_has_an_idea() -> None:
    files = (REPOSITORY / "conf" / "idea").glob("*.yaml")
    assert {file.stem for file in files} == {name for idea in IDEAS for name in (idea.choice_with, idea.choice_without)}
    lrn, towers = IDEAS[2], IDEAS[4]
    for idea, having, lacking, expected in (
        (lrn, "idea=lrn", "idea=base", True),
        (lrn, "idea=lrn", "", True),
        (lrn, "idea=base", "idea=lrn", False),
        (lrn, "idea=lrn x=1", "idea=base x=2", False),
        (towers, "idea=towers", "idea=base", False),
    ):
        pair = [dict(override.split("=") for override in typed.split()) for typed in (having, lacking)]
        assert idea.tells_apart(*pair) is expected, (having, lacking)


def test_what_an_idea_is_worth_has_the_sign_of_the_idea(tmp_path: Path) -> None:
    for seed, test in enumerate((0.70, 0.72)):
        run(tmp_path / f"base{seed}", "idea=base", seed=seed, test=test)
        run(tmp_path / f"lrn{seed}", "idea=lrn", seed=seed, test=test + 0.05)
        run(tmp_path / f"bare{seed}", "idea=no_dropout", seed=seed, test=test - 0.10)
    found = study(tmp_path)
    lrn, dropout = found.effects
    names = (lrn.idea.name, found.labels[lrn.having], found.labels[lrn.lacking])
    assert names == (IDEAS[2].name, "idea=lrn", "idea=base")
    # Standard error sqrt(2 * 0.0002 / 2) = 0.01414, 2 degrees of freedom: t(0.975) = 4.303.
    assert lrn.worth[:3] == pytest.approx((5, 5 - 6.085, 5 + 6.085), abs=0.01)
    assert (dropout.idea.name, found.labels[dropout.having]) == ("dropout", "idea=base")
    assert dropout.worth.value == pytest.approx(10)
