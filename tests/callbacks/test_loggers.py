"""What the loggers leave in memory and on the disk, resumed runs and full disks included."""

import gc
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_lit.callbacks.loggers import CSV, History, TensorBoard
from alexnet_lit.terminal import close_log, open_log
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


def test_history_keeps_every_value_of_a_run() -> None:
    history = History()
    make_trainer(max_epochs=2, logger=[history]).fit(Module(), Data(train=4))
    assert set(history.points) == {"train/loss", "train/acc", "val/acc", "epoch"}
    assert len(history.points["train/loss"]) == 8
    assert [value for _, value in history.points["val/acc"]] == [0.75, 0.75]
    assert all(type(step) is int and type(value) is float for step, value in history.points["train/loss"])


def test_a_step_logged_again_replaces_the_first_value_and_points_can_be_restored() -> None:
    history, other = History(), History()
    assert history.latest("loss") is None
    for step, value in ((10, 1.0), (20, 2.0), (20, 0.0)):
        history.log_metrics({"loss": value}, step)
    other.log_metrics({"other": 1.0}, 1)
    other.points = history.points
    assert other.points == {"loss": [(10, 1.0), (20, 0.0)]}
    assert other.latest("loss") == 0.0


def test_csv_of_a_resumed_run_measures_again_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    logger = CSV(run_dir=str(tmp_path))
    logger.rewind(3)  # there is no file yet
    for step in (1, 2, 3, 10):
        logger.log_metrics({"loss": 0.5}, step)
    with logger.path.open("a") as file:
        file.write("2,lo")  # cut short by a kill

    logger.rewind(3)
    logger.log_metrics({"loss": 0.25}, 3)

    assert logger.path.read_text().splitlines() == ["step,tag,value", "1,loss,0.5", "2,loss,0.5", "3,loss,0.25"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_fit_and_test_leave_one_event_file_in_the_run_folder_and_nothing_else(tmp_path: Path) -> None:
    logger = TensorBoard(run_dir=str(tmp_path))
    trainer, module = make_trainer(max_epochs=2, logger=[logger]), Module()
    module.save_hyperparameters({"config": {"seed": 0}})
    trainer.fit(module, Data(train=4))
    trainer.test(module, Data(), verbose=False)
    logger.experiment.close()
    assert [path.name[:20] for path in tmp_path.iterdir()] == ["events.out.tfevents."]
    assert logger.log_dir == trainer.log_dir == str(tmp_path)
    read = curves(tmp_path)
    assert set(read) == {"train/loss", "train/acc", "val/acc", "test/acc", "epoch"}
    assert len(read["train/loss"]) == 8
    assert read["test/acc"] == [(8, 0.625)]


def test_a_resumed_run_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    for rewind, steps in ((None, (1, 2, 3)), (3, (3, 4))):
        logger = TensorBoard(run_dir=str(tmp_path))
        if rewind is not None:
            logger.rewind(rewind)
        for step in steps:
            logger.log_metrics({"loss": 10.0 * len(steps) + step}, step)
        logger.experiment.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert curves(tmp_path) == {"loss": [(1, 31.0), (2, 32.0), (3, 23.0), (4, 24.0)]}


def test_a_sweep_of_many_runs_leaves_no_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())  # of which some may end meanwhile: they are other tests'
    for run in range(3):
        logger = TensorBoard(run_dir=str(tmp_path / str(run)))
        logger.log_metrics({"loss": 1.0}, 1)
    assert set(threading.enumerate()) - before
    del logger
    gc.collect()
    assert not set(threading.enumerate()) - before
    assert curves(tmp_path / "2") == {"loss": [(1, 1.0)]}


@pytest.mark.posix
def test_a_full_disk_costs_the_rest_of_the_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No thread dies of it with a traceback, and what is there can be read."""
    import resource

    logger = TensorBoard(run_dir=str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    (file,) = tmp_path.iterdir()
    open_log(None, speak=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 9, limits[1]))  # within the next record
    try:
        for step in range(2, 40):
            logger.log_metrics({"loss": 1.0}, step)
            logger.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.log_metrics({"loss": 1.0}, 40)  # there is room again, but half a record ends the file
    logger.experiment.close()
    close_log()
    out, err = capsys.readouterr()
    assert (out, err) == (f"warning: {file} can't be written (File too large): the run goes on without\n", "")
    assert curves(tmp_path) == {"loss": [(1, 1.0)]}
