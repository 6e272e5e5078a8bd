"""Runs put together, and which of them the others are compared with."""

from pathlib import Path

import pytest

from alexnet_lit.errors import Mistake
from alexnet_lit.report.experiments import Experiment, baseline_of, experiments_of, shared
from alexnet_lit.report.runs import Run, read_runs
from tests.report.made import run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two seeds of two experiments, one killed of each kind of name, and one run twice."""
    for n, (lrn, seed) in enumerate([("false", 0), ("true", 0), ("false", 1), ("true", 1)]):
        name = f"{n}_model.lrn-{lrn}_seed-{seed}"
        run(tmp_path / name, "data=sample", f"model.lrn={lrn}", f"seed={seed}", f"name=n{n}", seed=seed, test=n / 10)
    run(tmp_path / "4_model.lrn-true_seed-2", status=None)
    (tmp_path / "4_model.lrn-true_seed-2" / ".hydra").mkdir()
    run(tmp_path / "5_other", status=None, curve=(0.5,))
    run(tmp_path / "6_again", "data=sample", "model.lrn=false", "seed=1", seed=1, test=0.9)
    return read_runs([str(tmp_path)])


def test_runs_that_differ_in_the_seed_are_one_experiment(runs: list[Run]) -> None:
    found = experiments_of(runs)
    assert [each.label for each in found] == ["model.lrn=false", "model.lrn=true", "other"]
    assert [len(each.runs) for each in found] == [3, 3, 1]
    assert shared(runs) == {"data": "sample"}


def test_a_seed_counts_once(runs: list[Run]) -> None:
    off, on, other = experiments_of(runs)
    assert off.scores("test/acc") == [0.0, 0.9]
    assert on.scores("test/acc") == [0.1, 0.3]
    assert other.scores("test/acc") == []


def test_runs_that_differ_in_nothing_are_one_experiment(tmp_path: Path) -> None:
    for seed in range(2):
        run(tmp_path / str(seed), f"paths.logs=/tmp/{seed}", seed=seed, test=0.5)
    (found,) = experiments_of(read_runs([str(tmp_path)]))
    assert (found.label, len(found.completed)) == ("", 2)


def test_the_baseline_is_named_or_base_or_the_first(runs: list[Run]) -> None:
    found = experiments_of(runs)
    assert baseline_of(found, None) is found[0]
    base = Experiment({"idea": "base"}, [])
    assert baseline_of([*found, base], None) is base
    assert baseline_of(found, "lrn=true") is found[1]
    assert baseline_of([*found, Experiment({"model.lrn": "true", "x": "1"}, [])], "model.lrn=true") is found[1]
    with pytest.raises(Mistake, match=r"--baseline=lrn: several are called so: .*lrn=false, model.lrn=true"):
        baseline_of(found, "lrn")
    with pytest.raises(Mistake, match=r"--baseline=x: none is called so: there are model.lrn=false, .*, other"):
        baseline_of(found, "x")
