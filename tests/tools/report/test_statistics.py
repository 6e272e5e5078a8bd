"""Statistics against printed tables of Student's t, learning curves, and the ideas of the paper."""

import math
from pathlib import Path

import pytest

from alexnet_lit.tools.report.figures import learning_curve
from alexnet_lit.tools.report.runs import read_runs
from alexnet_lit.tools.report.statistics import IDEAS, Difference, Study, holm, welch
from tests.conftest import REPOSITORY
from tests.tools.report.made import events, run

NAMED = {idea.name: idea for idea in IDEAS}


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
    assert unequal is not None
    assert unequal[:3] == pytest.approx((-3, -3 - half, -3 + half), rel=1e-3)
    # Where n does not allow it there is no interval.
    assert welch([0.5], [0.25, 0.5]) == pytest.approx(Difference(0.125), nan_ok=True)
    assert welch([0.5, 0.5], [0.25, 0.25]) == pytest.approx(Difference(0.25), nan_ok=True)
    assert welch([], [1, 2]) is welch([1, 2], []) is None
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
    run(tmp_path / "0", "x=1", seed=0, curve=(0.25, 0.5, 0.75))
    run(tmp_path / "1", "x=1", seed=1, curve=(0.5, 1.0))
    run(tmp_path / "2", "x=1", seed=2, status="diverged", curve=(0.0, 0.125))
    band, (diverged,) = learning_curve(study(tmp_path).runs, "val/acc", by_images=True)
    assert band.to_dict("index") == {
        320: {"mean": 0.375, "low": 0.25, "high": 0.5},
        640: {"mean": 0.75, "low": 0.5, "high": 1.0},
    }
    assert diverged.to_dict() == {320: 0, 640: 0.125}


def test_points_between_are_filled_in(tmp_path: Path) -> None:
    for seed, steps in enumerate(((0, 10, 20), (0, 20))):
        folder = run(tmp_path / str(seed), "x=1", seed=seed, steps=20)
        events(folder / "events.out.tfevents.1", [({"val/acc": step / 20}, step, 1.0) for step in steps])
    band, _ = learning_curve(study(tmp_path).runs, "val/acc", by_images=False)
    assert band["mean"].to_dict() == {0: 0, 10: 0.5, 20: 1}


def test_a_run_that_does_not_tell_its_batch_has_its_fellows(tmp_path: Path) -> None:
    for n, (x, size) in enumerate(((1, None), (1, 64), (2, None))):
        run(tmp_path / str(n), f"x={x}", f"seed={n}", status="failed", steps=10 * bool(size), images=10 * (size or 0))
    assert study(tmp_path).runs["images_per_step"].fillna(0).tolist() == [64, 64, 0]


@pytest.mark.parametrize(
    ("idea", "having", "lacking", "expected"),
    [
        ("local response normalisation", "idea=lrn", "idea=base", True),
        ("local response normalisation", "idea=lrn", "", True),
        ("local response normalisation", "idea=base", "idea=lrn", False),
        ("local response normalisation", "idea=lrn x=1", "idea=base x=2", False),
        ("two towers instead of one of half the kernels", "idea=towers", "idea=base", False),
    ],
)
def test_who_has_an_idea(idea: str, having: str, lacking: str, expected: bool) -> None:
    pair = [dict(override.split("=") for override in typed.split()) for typed in (having, lacking)]
    assert NAMED[idea].tells_apart(*pair) is expected


def test_every_switch_of_the_project_is_an_idea() -> None:
    files = (REPOSITORY / "conf" / "idea").glob("*.yaml")
    assert {file.stem for file in files} == {name for idea in IDEAS for name in (idea.choice_with, idea.choice_without)}


def test_what_an_idea_is_worth_has_the_sign_of_the_idea(tmp_path: Path) -> None:
    for seed, test in enumerate((0.70, 0.72)):
        run(tmp_path / f"base{seed}", "idea=base", seed=seed, test=test)
        run(tmp_path / f"lrn{seed}", "idea=lrn", seed=seed, test=test + 0.05)
        run(tmp_path / f"bare{seed}", "idea=no_dropout", seed=seed, test=test - 0.10)
    found = study(tmp_path)
    lrn, dropout = found.effects
    assert (lrn.idea.name, found.labels[lrn.having], found.labels[lrn.lacking]) == (
        IDEAS[2].name,
        "idea=lrn",
        "idea=base",
    )
    # Standard error sqrt(2 * 0.0002 / 2) = 0.01414, 2 degrees of freedom: t(0.975) = 4.303.
    assert lrn.worth[:3] == pytest.approx((5, 5 - 6.085, 5 + 6.085), abs=0.01)
    assert (dropout.idea.name, found.labels[dropout.having]) == ("dropout", "idea=base")
    assert dropout.worth.value == pytest.approx(10)
