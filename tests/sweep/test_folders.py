"""Where a sweep leaves its jobs: never among the results of another, and in folders of any name."""

from pathlib import Path

import pytest

from alexnet_lit.config import quoted
from tests.conftest import Outcome, Train
from tests.sweep.tiny import REASON, REFUSED, TINY, jobs_of, result_of, rows_of, sweep_of, trouble

pytestmark = pytest.mark.slow

ODD = 'Ann\'s nets, a=b {c} $d $e} \\f #1 "é"'


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def refused(outcome: Outcome, line: str) -> bool:
    assert outcome.err.startswith(f"error: {line}")
    return (outcome.status, outcome.err.count("\n"), outcome.out) == (2, 1, "")


def test_a_folder_with_a_sweep_takes_no_other(train: Train, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed"
    where = f"hydra.sweep.dir={fixed}"
    first = train(*REFUSED, "-m", "seed=1,2", where)
    assert first.status == 1
    before = contents(fixed)

    for typed in (["seed=3,4"], ["seed=1,2"]):
        outcome = train(*REFUSED, "-m", *typed, where)
        assert refused(outcome, f"hydra.sweep.dir={fixed}: holds a sweep already: name another folder, or go on with ")
        assert contents(fixed) == before
    again = train("-m", f"resume_sweep={fixed}")
    assert [row["status"] for row in rows_of(fixed)] == ["failed", "failed"]
    assert again.status == 1
    assert REASON in again.out


def test_a_folder_with_runs_takes_no_other(train: Train, tmp_path: Path) -> None:
    run = train(*TINY).folder
    before = contents(run)
    for folder, there in ((run, "a run"), (run.parent, "runs")):
        outcome = train(*REFUSED, "-m", "seed=1,2", f"hydra.sweep.dir={folder}")
        assert refused(outcome, f"hydra.sweep.dir={folder}: holds {there} already: name another folder")
        assert contents(run) == before

    outcome = train(*TINY, "seed=1", f"hydra.run.dir={run}", logs=tmp_path / "other")
    assert refused(
        outcome, f"hydra.run.dir={run}: holds a run already: name another folder, or go on with that one by "
    )
    assert contents(run) == before


@pytest.mark.parametrize("subdir", ["same", "${seed}", "../elsewhere/${hydra.job.num}", "${hydra.job.num}/${seed}"])
def test_each_job_has_a_folder_of_its_own(subdir: str, train: Train, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    outcome = train(*REFUSED, "-m", "seed=0,1", f"hydra.sweep.subdir='{subdir}'", f"hydra.sweep.dir={mine}")
    assert refused(outcome, f"hydra.sweep.subdir={subdir}: each job needs a folder of its own in the sweep's: put ${{")
    assert not mine.exists()


def test_folders_named_in_ones_own_way(train: Train) -> None:
    subdir = "hydra.sweep.subdir='s${hydra:job.num}_${seed}'"
    sweep = sweep_of(train(*REFUSED, "-m", "seed=3,4", subdir))
    assert [row["folder"] for row in rows_of(sweep)] == ["s0_3", "s1_4"]


def test_what_is_refused_leaves_a_named_folder_free(train: Train, tmp_path: Path) -> None:
    where = f"hydra.sweep.dir={tmp_path / 'mine'}"
    assert train(*REFUSED, "-m", "model.lnr=true,false", where).status == 2
    assert not (tmp_path / "mine").exists()
    assert train(*REFUSED, "-m", "model.lrn=true,false", where).status == 1
    (tmp_path / "file").touch()
    outcome = train(*REFUSED, "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'file'}/sweep")
    assert refused(outcome, f"hydra.sweep.dir={tmp_path / 'file'}/sweep: can't be made (Not a directory): name another")
    assert train(*REFUSED, f"hydra.run.dir={tmp_path / 'run'}").status == 2
    assert not (tmp_path / "run").exists()


def test_a_path_may_have_any_characters(train: Train, tmp_path: Path) -> None:
    logs, ahead = tmp_path / ODD, tmp_path / "ahead"
    typed = Path(quoted(logs))
    ahead.touch()
    stopped = train(*TINY, trouble("interrupt", ahead), logs=typed)
    (run,) = (logs / "runs").iterdir()
    assert stopped.status == 130, stopped.err[-1500:]
    assert result_of(run)["status"] == "interrupted"
    for checkpoint in (run, run / "checkpoints" / "last.ckpt"):
        outcome = train(f"ckpt={checkpoint}", "trainer.max_epochs=2", logs=typed)
        assert (outcome.status, outcome.err) == (0, "")
        assert list((logs / "runs").iterdir()) == [run], "it goes on in place"
    assert result_of(run)["epochs"] == 2

    ahead.touch()
    stopped = train(*TINY, "-m", "seed=0,1", trouble("interrupt", ahead, job=0), logs=typed)
    (sweep,) = (logs / "sweeps").iterdir()
    assert stopped.status == 130

    resumed = train("-m", f"resume_sweep={sweep}", logs=typed)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 2
    assert "resume  " in (jobs_of(sweep)[0] / "train.log").read_text()
    assert refused(train(f"ckpt={logs}/none"), f"ckpt={logs}/none: there is no {logs}/none")
