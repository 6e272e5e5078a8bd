"""Runs, found in folders and told by what is in them."""

from pathlib import Path

import pytest

from alexnet_lit.errors import Mistake
from alexnet_lit.report.runs import Run, read_runs
from tests.report.made import events, run


def only(folder: Path) -> Run:
    (found,) = read_runs([str(folder)])
    return found


def test_all_runs_below_in_the_order_of_their_numbers_each_once(tmp_path: Path) -> None:
    for name in ("sweeps/a/0_x", "sweeps/a/10_x", "sweeps/a/2_x", "runs/b", "sweeps/a/earlier/2_x", "sweeps/a/.x/3_x"):
        run(tmp_path / name)
    (tmp_path / "sweeps" / "a" / "summary.md").touch()
    (tmp_path / "sweeps" / "b").symlink_to(tmp_path / "sweeps" / "a")
    found = read_runs([str(tmp_path / "sweeps" / "a" / "2_x"), str(tmp_path)])
    names = [str(run.folder.relative_to(tmp_path)) for run in found]
    assert names == ["sweeps/a/2_x", "runs/b", "sweeps/a/0_x", "sweeps/a/10_x"]


def test_a_result_is_taken_as_it_is(tmp_path: Path) -> None:
    found = only(run(tmp_path / "x", "+model.lrn=True", "seed=3", "data.fold=1", seed=3, test=0.5, curve=(0.4, 0.5)))
    assert (found.status, found.repeat, found.images_a_step, found.last_step) == ("completed", ("3", "1"), 32, 20)
    assert found.overrides == {"model.lrn": "true", "seed": "3", "data.fold": "1"}
    assert (found.figure("test/acc"), found.figure("test/loss")) == (0.5, None)


def test_without_a_result_a_run_is_unfinished(tmp_path: Path) -> None:
    found = only(run(tmp_path / "4_idea-lrn_seed-1", status=None, curve=(0.4, 0.5)))
    assert (found.status, found.last_step, found.overrides, found.images_a_step) == ("unfinished", 20, {}, None)
    assert found.stem == "idea-lrn"


def test_a_run_that_has_only_begun_is_one(tmp_path: Path) -> None:
    (tmp_path / "x" / ".hydra").mkdir(parents=True)
    assert (only(tmp_path / "x").status, only(tmp_path / "x").last_step) == ("unfinished", 0)


def test_a_run_that_has_gone_on_since_its_result_is_unfinished(tmp_path: Path) -> None:
    run(tmp_path / "x", status="interrupted", curve=(0.4,))
    assert only(tmp_path / "x").status == "interrupted"
    events(tmp_path / "x" / "events.out.tfevents.2", [({"train/loss": 1.0}, 15, 20.0)], restart=10)
    assert only(tmp_path / "x").status == "unfinished"


@pytest.mark.parametrize(("text", "reason"), [('{"status": "comp', "result.json: "), ("[]", "holds no result")])
def test_half_a_result_is_none_and_is_told(tmp_path: Path, text: str, reason: str) -> None:
    folder = run(tmp_path / "x")
    (folder / "result.json").write_text(text)
    assert (only(folder).status, only(folder).result) == ("unfinished", {})
    assert reason in only(folder).broken


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("3_model.lrn-false_optimizer-adamw", "model.lrn-false_optimizer-adamw"),
        ("3_seed-2_idea-lrn", "idea-lrn"),
        ("3_data.fold-2_idea-lrn_seed-10", "idea-lrn"),
        ("12_seed-2", ""),
        ("2026-11-25_10-00-00_mine", "2026-11-25_10-00-00_mine"),
    ],
)
def test_a_name_without_what_does_not_matter(tmp_path: Path, name: str, stem: str) -> None:
    assert Run(tmp_path / name, {}, {}, "").stem == stem


def test_a_folder_that_is_not_there_or_has_no_run(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="nowhere: there is no such folder"):
        read_runs([str(tmp_path / "nowhere")])
    with pytest.raises(Mistake, match="no run in it"):
        read_runs([str(tmp_path)])


def test_without_a_result_the_name_tells_the_seed(tmp_path: Path) -> None:
    assert Run(tmp_path / "3_idea-lrn_data.fold-4_seed-12", {}, {}, "").repeat == ("12", "4")
    assert Run(tmp_path / "3_idea-lrn_seed-12", {"seed": 0, "overrides": []}, {}, "").repeat == ("0", "")
