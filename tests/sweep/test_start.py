"""What a user types to start a sweep and to go on with it, what comes of it, and where."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from pandas import json_normalize

from alexnet_lit.config import compose, job_folder, lock_run, quoted, to_plain
from tests.conftest import REPOSITORY, Outcome, Train
from tests.runs import contents, equal, weights
from tests.sweep.tiny import QUIET, REASON, REFUSED, jobs_of, result_of, rows_of, sweep_of
from tests.trouble import trouble

# Ideas, and the keys that each switches over.
IDEAS = {"base": set(), "lrn": {"model.lrn"}, "tanh": {"model.activation"}, "sigmoid": {"model.activation"}}
IDEAS |= {"no_overlap": {"model.overlapping_pool"}, "no_dropout": {"model.dropout"}}
IDEAS |= {"no_mirror": {"data.augment.mirror"}, "crop": {"data.augment.crop"}, "color": {"data.augment.color"}}
IDEAS |= {"towers": {"model.design"}, "half": {"model.design"}}  # torch has no Nesterov's without momentum:
IDEAS |= {"no_momentum": {"optimizer.momentum", "optimizer.nesterov"}, "no_weight_decay": {"optimizer.weight_decay"}}
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
        ("x" * 300, f"7_{'x' * 98}"),
    ],
)
def test_a_name_is_safe_everywhere(overrides: str, name: str) -> None:
    assert job_folder(7, overrides) == name


@pytest.mark.slow
def test_ideas_are_switched_over_one_at_a_time() -> None:
    assert {*IDEAS, WHOLE_NET} == {file.stem for file in (REPOSITORY / "conf" / "idea").iterdir()}
    ready = OmegaConf.load(REPOSITORY / "conf" / "sweep" / "ideas.yaml").hydra.sweeper.params.idea
    assert [name.strip() for name in ready.split(",")] == [*IDEAS, WHOLE_NET]
    whole = {name: to_plain(compose("experiment=d2l", "sweep=ideas", f"idea={name}")) for name in IDEAS}
    configs = {name: json_normalize(config).to_dict("records")[0] for name, config in whole.items()}  # by dotted keys
    base = configs["base"]
    assert compose("experiment=paper_2012", "sweep=ideas").model == compose().model, "the same base for every recipe"
    for name, other in configs.items():
        assert {key for key in {*base, *other} if base.get(key) != other.get(key)} == IDEAS[name], name
    assert compose("idea=no_momentum").optimizer._target_ == "torch.optim.SGD", "by itself too: Muon has no nesterov"


@pytest.mark.slow
def test_every_way_to_fail_is_a_row_and_the_others_run(train: Train, tmp_path: Path) -> None:
    ask = [*QUIET, "-m", "optimizer.lr=0.02,1e30,-1,0.01", "scheduler=constant"]

    outcome = train(*ask, trouble("memory", tmp_path / "ahead", job=0))

    sweep = sweep_of(outcome)
    rows = rows_of(sweep)
    assert outcome.status == 1
    assert [row["status"] for row in rows] == ["failed", "diverged", "failed", "completed"]
    assert rows[0]["reason"] == "OutOfMemoryError: no room for 3 GiB"
    assert "lower optimizer.lr" in rows[1]["reason"]
    assert rows[2]["reason"] == "optimizer: Invalid learning rate: -1.0"
    closing = outcome.out[outcome.out.index(" job   optimizer.lr") :]
    for folder, row in zip(jobs_of(sweep), rows, strict=True):
        log = (folder / "train.log").read_text()
        assert (f"{row['status']:11} {folder}: {row['reason']}" in closing) is (row["status"] != "completed")
        assert ("Traceback" in log) is (row["number"] == "0")
        assert ("error: optimizer: Invalid" in log) is (row["optimizer.lr"] == "-1")
    assert "4 jobs: 2 failed, 1 diverged, 1 completed" in closing


ODD = 'Ann\'s nets, a=b {c} $d $e} \\f #1 "é"'


@pytest.mark.slow
def test_a_folder_with_results_takes_no_others(train: Train, tmp_path: Path) -> None:
    """Nor does what is refused take a folder."""
    mine = tmp_path / "mine"
    where = f"hydra.sweep.dir={mine}"
    assert train(*REFUSED, "-m", "model.lnr=true,false", where).status == 2
    refusal = train(*REFUSED, "-m", "seed=0,1", where, "hydra.sweep.subdir='${seed}'").refusal
    assert refusal == "hydra.sweep.subdir=${seed}: jobs lie in folders <number>_<overrides>: leave it out"
    assert train(*REFUSED, f"hydra.run.dir={mine}").status == 2
    assert not mine.exists()
    assert train(*REFUSED, "-m", "seed=1,2", where).status == 1
    before, job = contents(mine), jobs_of(mine)[0]
    (tmp_path / "file").touch()
    for place, line in (
        (mine, "holds a sweep already: name another folder, or resume that one"),
        (job, "holds a run already: name another folder, or resume that one"),
        (tmp_path / "file" / "sweep", "can't be made (Not a directory): name another"),
    ):
        refusal = train(*REFUSED, "-m", "seed=3,4", f"hydra.sweep.dir={place}").refusal
        assert refusal.startswith(f"hydra.sweep.dir={place}: {line}")
    assert contents(mine) == before

    again = train("-m", f"resume_sweep={mine}")
    assert [row["status"] for row in rows_of(mine)] == ["failed", "failed"]
    assert (again.status, REASON in again.out) == (1, True)


@pytest.mark.slow
def test_a_path_may_have_any_characters(train: Train, tmp_path: Path) -> None:
    logs = tmp_path / ODD
    typed = Path(quoted(logs))
    stopped = train(*QUIET, "-m", "seed=0,1", trouble("interrupt", tmp_path / "ahead", job=0), logs=typed)
    (sweep,) = (logs / "sweeps").iterdir()
    assert stopped.status == 130

    train("-m", f"resume_sweep={sweep}", logs=typed).ok()
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 2
    assert "resume  " in (jobs_of(sweep)[0] / "train.log").read_text()

    run = jobs_of(sweep)[1]
    train(f"ckpt={run / 'checkpoints' / 'last.ckpt'}", "trainer.max_epochs=2", logs=typed).ok()
    assert result_of(run)["epochs"] == 2, "it goes on in place"
    assert train(f"ckpt={logs}/none").refusal.startswith(f"ckpt={logs}/none: there is no {logs}/none")


def resumed(train: Train, before: Outcome) -> Outcome:
    return train("-m", f"resume_sweep={sweep_of(before)}", logs=before.logs)


@pytest.mark.slow
def test_what_was_stopped_goes_on_bit_for_bit_and_what_failed_starts_anew(train: Train, tmp_path: Path) -> None:
    """Job 0 completes, 1 is killed (as its lost result says), 2 fails, 3 is stopped by Ctrl-C, 4 is not started."""
    ask = [*QUIET, "data.augment.erase=0.5", "model.dropout=0.5", "data.train_size=32"]
    straight = train(*ask, "seed=3", logs=tmp_path / "straight")
    ask += [trouble("error", tmp_path / "fails", job=2), trouble("interrupt", tmp_path / "stops", job=3)]

    stopped = train(*ask, "-m", "seed=0,1,2,3,4")

    sweep = sweep_of(stopped)
    jobs = jobs_of(sweep)
    assert stopped.status == 130
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "completed", "failed", "interrupted"]
    assert rows_of(sweep)[2]["reason"] == "RuntimeError: a bug"
    assert "RuntimeError: a bug" in stopped.err
    assert "Traceback" in (jobs[2] / "train.log").read_text()
    assert "4 jobs: 2 completed, 1 failed, 1 interrupted, stopped before its end" in stopped.out
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    killed, done = weights(jobs[1]), contents(jobs[0])
    (jobs[1] / "result.json").unlink()
    (sweep / ".stop").touch()  # as a process leaves it that is killed while it waits for its jobs

    resumed(train, stopped).ok()
    assert [job.name for job in jobs_of(sweep)] == [f"{seed}_seed-{seed}" for seed in range(5)]
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 5
    assert contents(jobs[0]) == done, "what is done stays as it is"
    assert equal(weights(jobs[1]), killed)
    assert result_of(jobs[2])["steps"] == 4
    assert equal(weights(jobs[3]), weights(straight.folder))
    assert result_of(jobs[3])["test/loss"] == straight.result["test/loss"]
    assert ["resume  " in (job / "train.log").read_text() for job in jobs] == [False, True, False, True]
    (earlier,) = (sweep / "earlier").glob("*/*")
    assert result_of(earlier)["reason"] == "RuntimeError: a bug"

    before = [contents(job) for job in jobs]
    again = resumed(train, stopped).ok()
    assert again.out.count("completed before") == 5
    assert "resume with" not in again.out
    assert [contents(job) for job in jobs] == before, "a complete sweep is left alone"


@pytest.mark.slow
def test_what_a_sweep_can_not_go_on_with(train: Train, tmp_path: Path) -> None:
    failed = train(*REFUSED, "-m", "seed=0,1")
    sweep = sweep_of(failed)
    job, before = jobs_of(sweep)[0], contents(sweep)
    for place, what in ((sweep, "sweep"), (job, "run")):
        with lock_run(place):
            assert resumed(train, failed).refusal.startswith(f"{place}: this {what} is still running: wait for its end")

    for typed, line in (
        ([f"resume_sweep={sweep}", "seed=3"], "seed=3: a sweep goes on as it was started: leave it out"),
        ([f"resume_sweep={tmp_path}"], f"resume_sweep={tmp_path}: is no sweep, as there is no multirun.yaml in it"),
        ([f"resume_sweep={job}"], f"continue a run with ckpt={job}"),
        ([f"ckpt={sweep}"], f"ckpt={sweep}: is a sweep, not a run: use resume_sweep={sweep}"),
    ):
        assert line in train(*typed).refusal
    assert contents(sweep) == before
