"""Means and bands over runs, and runs that did not complete."""

from pathlib import Path

import pytest

from alexnet_lit.report.experiments import experiments_of
from alexnet_lit.report.lines import images_a_step, line_of
from alexnet_lit.report.runs import read_runs
from tests.report.made import events, run


def test_a_band_over_seeds_in_images_up_to_where_all_are(tmp_path: Path) -> None:
    run(tmp_path / "0", "x=1", seed=0, curve=(0.25, 0.5, 0.75))
    run(tmp_path / "1", "x=1", seed=1, curve=(0.5, 1.0))
    run(tmp_path / "2", "x=1", seed=2, status="diverged", curve=(0.0, 0.125))
    (experiment,) = experiments_of(read_runs([str(tmp_path)]))
    line = line_of(experiment, "val/acc", images_a_step([experiment]))
    assert line.x.tolist() == [320, 640]
    assert (line.low.tolist(), line.mean.tolist(), line.high.tolist()) == ([0.25, 0.5], [0.375, 0.75], [0.5, 1.0])
    ((x, y),) = line.broken
    assert (x.tolist(), y.tolist()) == ([320, 640], [0, 0.125])


def test_points_between_are_filled_in(tmp_path: Path) -> None:
    for seed, steps in enumerate(((0, 10, 20), (0, 20))):
        folder = run(tmp_path / str(seed), "x=1", seed=seed, steps=20)
        events(folder / "events.out.tfevents.1", [({"val/acc": step / 20}, step, step) for step in steps])
    (experiment,) = experiments_of(read_runs([str(tmp_path)]))
    line = line_of(experiment, "val/acc", None)
    assert (line.x.tolist(), line.mean.tolist()) == ([0, 10, 20], [0, 0.5, 1])


def test_a_long_curve_is_thinned_to_means(tmp_path: Path) -> None:
    folder = run(tmp_path / "x", "x=1", steps=1000)
    events(folder / "events.out.tfevents.1", [({"train/loss": n % 2}, n, n) for n in range(1, 1001)])
    (experiment,) = experiments_of(read_runs([str(tmp_path)]))
    line = line_of(experiment, "train/loss", None)
    assert line.x.size == 250
    assert line.x[:2].tolist() == [2.5, 6.5]
    assert set(line.mean.tolist()) == {0.5}


@pytest.mark.parametrize(
    ("told", "expected"),
    [((32, None, 32), 32), ((64, None, 32), 64), ((None, None, 32), 32), ((None, None, None), None)],
)
def test_a_run_that_does_not_tell_its_batch_has_its_fellows(
    tmp_path: Path, told: tuple[int | None, ...], expected: int | None
) -> None:
    """Of the first two the experiment is the same."""
    for n, (size, x) in enumerate(zip(told, (1, 1, 2), strict=True)):
        status = "completed" if size else "failed"
        run(tmp_path / str(n), f"x={x}", f"seed={n}", status=status, steps=10, images=10 * (size or 0))
    experiments = experiments_of(read_runs([str(tmp_path)]))
    scale = images_a_step(experiments)
    assert (scale and scale[experiments[0].runs[1]]) == expected


def test_two_sizes_and_no_fellow_are_no_telling(tmp_path: Path) -> None:
    for n, size in enumerate((32, 64, 0)):
        run(tmp_path / str(n), f"x={n}", steps=10, images=10 * size)
    assert images_a_step(experiments_of(read_runs([str(tmp_path)]))) is None
