"""What a user types to start a sweep, and what comes of it."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alexnet_lit.config import compose, job_folder, plain
from tests.conftest import REPOSITORY, Train
from tests.sweep.tiny import QUIET, REASON, REFUSED, jobs_of, result_of, rows_of, sweep_of, trouble

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "folders"),
    [
        ("-m experiment=quick,d2l", ["0_experiment-quick", "1_experiment-d2l"]),  # which differ in `name`
        ("-m optimizer=adamw,adamw optimizer.eps=1e-7", ["0_optimizer-adamw", "1_optimizer-adamw"]),  # sgd has no eps
        ("sweep=lrn seed=3", ["0_model.lrn-true", "1_model.lrn-false"]),  # a ready sweep
    ],
)
def test_jobs_are_named_after_what_differs(typed: str, folders: list[str], train: Train) -> None:
    outcome = train(*REFUSED, *typed.split())
    assert outcome.status == 1
    jobs = jobs_of(sweep_of(outcome))
    assert [job.name for job in jobs] == folders
    assert all(REASON in result_of(job)["reason"] for job in jobs)


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
def test_ideas_are_switched_over_one_at_a_time() -> None:
    assert {*IDEAS, WHOLE_NET} == {file.stem for file in (REPOSITORY / "conf" / "idea").iterdir()}
    ready = OmegaConf.load(REPOSITORY / "conf" / "sweep" / "ideas.yaml").hydra.sweeper.params.idea
    assert [name.strip() for name in ready.split(",")] == [*IDEAS, WHOLE_NET]
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
    ask = [*QUIET, "-m", "optimizer.lr=0.02,1e30,-1,0.01", "scheduler=constant"]

    outcome = train(*ask, trouble("memory", ahead, job=0))

    sweep = sweep_of(outcome)
    rows = rows_of(sweep)
    assert outcome.status == 1
    assert [row["status"] for row in rows] == ["failed", "diverged", "failed", "completed"]
    assert rows[0]["reason"] == "OutOfMemoryError: no room for 3 GiB"
    assert "lower optimizer.lr" in rows[1]["reason"]
    assert rows[2]["reason"] == "optimizer: Invalid learning rate: -1"
    closing = outcome.out[outcome.out.index(" job   optimizer.lr") :]
    for folder, row in zip(jobs_of(sweep), rows, strict=True):
        log = (folder / "train.log").read_text()
        assert (f"{row['status']:11} {folder}: {row['reason']}" in closing) is (row["status"] != "completed")
        assert ("Traceback" in log) is (row["number"] == "0")
        assert ("error: optimizer: Invalid" in log) is (row["optimizer.lr"] == "-1")
    assert "4 jobs: 2 failed, 1 diverged, 1 completed" in closing
