"""What a person types to start a sweep, and what comes of it."""

from pathlib import Path
from typing import Any

import pytest

from alexnet_lit.config import compose, job_folder, plain
from tests.conftest import REPOSITORY, Train
from tests.sweep.tiny import REASON, REFUSED, TINY, jobs_of, result_of, rows_of, sweep_of, trouble

IDEAS = {  # and the keys that each switches over
    "base": set(),
    "lrn": {"model.lrn"},
    "tanh": {"model.activation"},
    "sigmoid": {"model.activation"},
    "no_overlap": {"model.overlapping_pool"},
    "no_dropout": {"model.dropout"},
    "no_mirror": {"data.augment.mirror"},
    "crop": {"data.augment.crop"},
    "color": {"data.augment.color"},
    "towers": {"model.design"},
    "half": {"model.design"},
    "no_momentum": {"optimizer.momentum", "optimizer.nesterov"},  # torch has no Nesterov's without momentum
    "no_weight_decay": {"optimizer.weight_decay"},
}
WHOLE_NET = "lenet"  # the idea that is another net


def names(train: Train, *typed: str) -> list[str]:
    """The folders of the jobs that a command starts."""
    outcome = train(*REFUSED, *typed)
    assert outcome.status == 1
    folders = jobs_of(sweep_of(outcome))
    assert all(REASON in result_of(folder)["reason"] for folder in folders)
    return [folder.name for folder in folders]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "folders"),
    [
        (
            "model.lrn=true,false optimizer=sgd,adamw seed=3 name=mine",
            [
                "0_model.lrn-true_optimizer-sgd",
                "1_model.lrn-true_optimizer-adamw",
                "2_model.lrn-false_optimizer-sgd",
                "3_model.lrn-false_optimizer-adamw",
            ],
        ),
        ("experiment=quick,d2l", ["0_experiment-quick", "1_experiment-d2l"]),  # which differ in `name`
        ("optimizer=adamw,adamw optimizer.eps=1e-7", ["0_optimizer-adamw", "1_optimizer-adamw"]),  # sgd has no eps
        ("sweep=lrn seed=3", ["0_model.lrn-true", "1_model.lrn-false"]),
    ],
)
def test_jobs_are_named_after_what_differs(typed: str, folders: list[str], train: Train) -> None:
    assert names(train, "-m", *typed.split()) == folders


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("optimizer.lr-1e+30", "7_optimizer.lr-1e+30"),
        ("data.dir-'/mnt/a b,c'", "7_data.dir-mnt-a-b-c"),
        ("optimizer.betas-[0.9,0.95]", "7_optimizer.betas-0.9-0.95"),
        ("model.lrn-True_seed-0_data.augment.mirror-False", "7_model.lrn-true_seed-0_data.augment.mirror-false"),
        ("name-Größe", "7_name-Gr-e"),
        ("", "7"),
    ],
)
def test_a_name_is_safe_everywhere(overrides: str, name: str) -> None:
    assert job_folder(7, overrides) == name


def test_a_name_is_never_too_long() -> None:
    assert len(job_folder(1, "x" * 300)) == 100


@pytest.mark.slow
def test_a_job_that_can_not_be_composed_is_told_before_any_is_started(train: Train) -> None:
    outcome = train(*TINY, "-m", "optimizer=sgd,adamw", "optimizer.momentum=0.9", "seed=0,1")
    line = "error: optimizer.momentum: there is no such key: optimizer=muon and optimizer=sgd "
    assert outcome.err == f"{line}have it (no job was started)\n"
    assert outcome.status == 2
    assert not list((outcome.logs / "sweeps").iterdir())


@pytest.mark.slow
def test_a_ready_sweep_needs_no_more_than_its_name(train: Train) -> None:
    assert names(train, "sweep=ideas") == [f"{number}_idea-{name}" for number, name in enumerate([*IDEAS, WHOLE_NET])]
    assert {*IDEAS, WHOLE_NET} == {file.stem for file in (REPOSITORY / "conf" / "idea").iterdir()}


@pytest.mark.slow
def test_ideas_are_switched_over_one_at_a_time() -> None:
    configs = {name: leaves(plain(compose("experiment=d2l", "sweep=ideas", f"idea={name}"))) for name in IDEAS}
    base = configs["base"]
    for name, other in configs.items():
        assert {key for key in {*base, *other} if base.get(key) != other.get(key)} == IDEAS[name], name


def leaves(node: dict[str, Any], path: str = "") -> dict[str, Any]:
    """All values by their keys."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return found


@pytest.mark.slow
def test_every_way_to_fail_is_a_row_and_the_others_run(train: Train, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    ask = [*TINY, "-m", "seed=0,1", "optimizer.lr=0.01,1e30,-1", "scheduler=constant"]

    outcome = train(*ask, trouble("memory", ahead, job=0))

    sweep = sweep_of(outcome)
    rows = rows_of(sweep)
    assert outcome.status == 1
    assert [row["status"] for row in rows] == ["failed", "diverged", "failed", "completed", "diverged", "failed"]
    assert rows[0]["reason"] == "OutOfMemoryError: no room for 3 GiB"
    assert "lower optimizer.lr" in rows[1]["reason"]
    assert rows[2]["reason"] == "optimizer: Invalid learning rate: -1"
    closing = outcome.out[outcome.out.index(" job   seed") :]
    for folder, row in zip(jobs_of(sweep), rows, strict=True):
        log = (folder / "train.log").read_text()
        assert (f"{row['status']:11} {folder}: {row['reason']}" in closing) is (row["status"] != "completed")
        assert ("Traceback" in log) is (row["number"] == "0")
        assert ("error: optimizer: Invalid" in log) is (row["optimizer.lr"] == "-1")
    assert "6 jobs: 3 failed, 2 diverged, 1 completed" in closing
