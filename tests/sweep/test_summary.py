"""summary.csv and summary.md, from folders as jobs leave them."""

from pathlib import Path

import pytest

from alexnet_lit.sweep.summary import update_summary
from tests.sweep.tiny import rows_of
from tests.tools.report.made import run

KEYS = ("data", "model.lrn", "seed")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for seed, test in enumerate((0.5, 0.6, 0.7)):
        overrides = ("data=sample", "model.lrn=True", f"seed={seed}")
        run(tmp_path / f"{seed}_lrn", *overrides, test=test, best=0.25, seconds=2.0)
    plain = ("data=sample", "model.lrn=False")
    run(tmp_path / "3_x", *plain, "seed=0", test=0.4, best=0.3, seconds=1.0)
    run(tmp_path / "4_x", *plain, "seed=1", status="failed", reason="ValueError: a | b")
    run(tmp_path / "10_x", *plain, "seed=2", status=None)
    (tmp_path / "earlier" / "4_x").mkdir(parents=True)
    update_summary(tmp_path)
    return tmp_path


def test_a_row_a_job_in_the_order_of_their_numbers(sweep: Path) -> None:
    rows = rows_of(sweep)
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4", "10"]
    assert list(rows[1]) == ["number", *KEYS, "status", "test/acc", "val/acc_best", "seconds", "folder", "reason"]
    assert list(rows[1].values()) == ["1", "sample", "true", "1", "completed", "0.6", "0.25", "2.0", "1_lrn", ""]
    assert (rows[4]["status"], rows[4]["test/acc"], rows[4]["reason"]) == ("failed", "", "ValueError: a | b")
    assert (rows[5]["status"], rows[5]["model.lrn"]) == ("unfinished", "false")
    assert "killed" in rows[5]["reason"]


def test_the_page_shows_what_differs_and_says_once_what_does_not(sweep: Path) -> None:
    text = (sweep / "summary.md").read_text()
    for words in ("6 jobs: 4 completed, 1 failed, 1 unfinished.", "`data=sample`", f"report {sweep}"):
        assert words in text
    lines = [line.replace("\\|", "/").strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    assert rows[0] == ["number", *KEYS[1:], "status", "test/acc", "val/acc_best", "seconds", "folder", "reason"]
    assert rows[2] == ["0", "true", "0", "completed", "0.5000", "0.2500", "2.0", "0_lrn", ""]
    assert rows[6][-1] == "ValueError: a / b", "a | in a cell is no border"


def test_where_it_can_not_be_written_the_sweep_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "summary.csv").mkdir()
    update_summary(tmp_path)
    assert "can't be written" in capsys.readouterr().err
