"""Where a sweep leaves its jobs: never among the results of another, and in folders of any name."""

from pathlib import Path

import pytest

from alexnet_lit.config import quoted
from tests.conftest import Outcome, Train
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, sweep_of, trouble

pytestmark = pytest.mark.slow

# Refused as soon as the net is to be built, so that a sweep of such jobs takes a moment.
REFUSED = ("data=sample", "data.image_size=96", "model.num_classes=5")
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

    for typed in (["seed=1,2", "optimizer.lr=0.5"], ["seed=3,4"], ["seed=1,2"], ["sweep=seeds"]):
        outcome = train(*REFUSED, "-m", *typed, where)
        assert refused(outcome, f"hydra.sweep.dir={fixed}: there is a sweep in it already: go on with it by resume_")
        assert contents(fixed) == before
    again = train("-m", f"resume_sweep={fixed}")
    assert [row["status"] for row in rows_of(fixed)] == ["failed", "failed"]
    assert again.status == 1
    assert "model.num_classes=5" in again.out


def test_a_folder_with_runs_takes_no_other(train: Train, tmp_path: Path) -> None:
    run = train(*TINY).folder
    before = contents(run)
    for folder, there in ((run, "a run"), (run.parent, "runs")):
        outcome = train(*REFUSED, "-m", "seed=1,2", f"hydra.sweep.dir={folder}")
        assert refused(outcome, f"hydra.sweep.dir={folder}: there is {there} in it already: name another folder")
        assert contents(run) == before

    outcome = train(*TINY, "seed=1", f"hydra.run.dir={run}", logs=tmp_path / "other")
    assert refused(outcome, f"hydra.run.dir={run}: holds a run already: name another folder")
    assert contents(run) == before


@pytest.mark.parametrize(
    ("ask", "subdir", "line"),
    [
        (["seed=0,1"], "same", "jobs 0 and 1 would both have same: put ${hydra.job.num} into it"),
        (["seed=0,1", "model.lrn=true,false"], "${seed}", "jobs 0 and 1 would both have 0"),
        (["seed=0,0"], "${hydra.job.override_dirname}", "jobs 0 and 1 would both have seed-0"),
        (["seed=0,1"], "../elsewhere/${hydra.job.num}", "../elsewhere/0 is no folder straight in the sweep's"),
        (["seed=0,1"], "${model.lrn}/${seed}", "False/0 is no folder straight in the sweep's"),
        (["hydra/sweeper=optuna", "model.dropout=choice(0.0,0.5)"], "${model.dropout}", "jobs 0 and 1 would both have"),
    ],
)
def test_each_job_has_a_folder_of_its_own(ask: list[str], subdir: str, line: str, train: Train, tmp_path: Path) -> None:
    if "hydra/sweeper=optuna" in ask:
        pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs alexnet-lit[sweep]")
    mine = tmp_path / "mine"
    for where in ([], [f"hydra.sweep.dir={mine}"]):
        outcome = train(*REFUSED, "-m", *ask, f"hydra.sweep.subdir='{subdir}'", *where)
        assert refused(outcome, f"hydra.sweep.subdir={subdir}: {line}")
        assert not list(outcome.logs.glob("*/*"))
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
