"""Where a sweep leaves its jobs: never among the results of another, and in folders of any name."""

from pathlib import Path

import pytest

from alexnet_lit.config import quoted
from tests.conftest import Outcome, Train
from tests.sweep.tiny import QUIET, REASON, REFUSED, jobs_of, result_of, rows_of, trouble

pytestmark = pytest.mark.slow

ODD = 'Ann\'s nets, a=b {c} $d $e} \\f #1 "é"'


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def refused(outcome: Outcome, line: str) -> bool:
    assert outcome.err.startswith(f"error: {line}")
    return (outcome.status, outcome.err.count("\n"), outcome.out) == (2, 1, "")


def test_a_folder_with_results_takes_no_others(train: Train, tmp_path: Path) -> None:
    """Nor does what is refused take a folder."""
    mine = tmp_path / "mine"
    where = f"hydra.sweep.dir={mine}"
    assert train(*REFUSED, "-m", "model.lnr=true,false", where).status == 2
    outcome = train(*REFUSED, "-m", "seed=0,1", where, "hydra.sweep.subdir='${seed}'")
    assert refused(outcome, "hydra.sweep.subdir=${seed}: jobs lie in folders <number>_<overrides>: leave it out\n")
    assert train(*REFUSED, f"hydra.run.dir={mine}").status == 2
    assert not mine.exists()

    assert train(*REFUSED, "-m", "seed=1,2", where).status == 1
    before = contents(mine)
    outcome = train(*REFUSED, "-m", "seed=3,4", where)
    assert refused(outcome, f"hydra.sweep.dir={mine}: holds a sweep already: name another folder, or go on with ")
    outcome = train(*REFUSED, "-m", "seed=1,2", f"hydra.sweep.dir={jobs_of(mine)[0]}")
    assert refused(outcome, f"hydra.sweep.dir={jobs_of(mine)[0]}: holds a run already: name another folder, or go on ")
    assert contents(mine) == before

    again = train("-m", f"resume_sweep={mine}")
    assert [row["status"] for row in rows_of(mine)] == ["failed", "failed"]
    assert again.status == 1
    assert REASON in again.out
    (tmp_path / "file").touch()
    outcome = train(*REFUSED, "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'file'}/sweep")
    assert refused(outcome, f"hydra.sweep.dir={tmp_path / 'file'}/sweep: can't be made (Not a directory): name another")


def test_a_path_may_have_any_characters(train: Train, tmp_path: Path) -> None:
    logs, ahead = tmp_path / ODD, tmp_path / "ahead"
    typed = Path(quoted(logs))
    ahead.touch()
    stopped = train(*QUIET, "-m", "seed=0,1", trouble("interrupt", ahead, job=0), logs=typed)
    (sweep,) = (logs / "sweeps").iterdir()
    assert stopped.status == 130

    resumed = train("-m", f"resume_sweep={sweep}", logs=typed)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 2
    assert "resume  " in (jobs_of(sweep)[0] / "train.log").read_text()

    run = jobs_of(sweep)[1]
    longer = train(f"ckpt={run / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=2", logs=typed)
    assert (longer.status, longer.err) == (0, "")
    assert result_of(run)["epochs"] == 2, "it goes on in place"
    assert refused(train(f"ckpt={logs}/none"), f"ckpt={logs}/none: there is no {logs}/none")
