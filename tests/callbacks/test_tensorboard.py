import gc
import resource
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_lit.callbacks.tensorboard import TensorBoard
from alexnet_lit.terminal import close_log, open_log
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_fit_and_test_leave_one_event_file_in_the_run_folder_and_nothing_else(tmp_path: Path) -> None:
    logger = TensorBoard(run_dir=str(tmp_path))
    trainer, module = make_trainer(max_epochs=2, logger=[logger]), Module()
    module.save_hyperparameters({"config": {"seed": 0}})
    trainer.fit(module, Data(train=4))
    trainer.test(module, Data(), verbose=False)
    logger.close()
    assert [path.name[:20] for path in tmp_path.iterdir()] == ["events.out.tfevents."]
    assert logger.log_dir == trainer.log_dir == str(tmp_path)
    read = curves(tmp_path)
    assert set(read) == {"train/loss", "train/acc", "val/acc", "test/acc"}
    assert len(read["train/loss"]) == 8
    assert read["test/acc"] == [(8, 0.625)]


def test_curves_show_while_the_run_goes_on(tmp_path: Path) -> None:
    seen = []

    def look(stage: str) -> None:
        if stage == "val":
            seen.append(len(curves(tmp_path)["train/loss"]))

    logger = TensorBoard(run_dir=str(tmp_path))
    make_trainer(max_epochs=2, logger=[logger]).fit(Module(look), Data(train=4, val=1))
    logger.close()
    assert seen == [4, 8]


def test_a_resumed_run_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    for rewind, steps in ((None, (1, 2, 3)), (3, (3, 4))):
        logger = TensorBoard(run_dir=str(tmp_path))
        if rewind is not None:
            logger.rewind(rewind)
        for step in steps:
            logger.log_metrics({"loss": 10.0 * len(steps) + step, "epoch": 0}, step)
        logger.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert curves(tmp_path) == {"loss": [(1, 31.0), (2, 32.0), (3, 23.0), (4, 24.0)]}


def test_a_path_is_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    folder = tmp_path / "$HOME"
    logger = TensorBoard(run_dir=str(folder))
    logger.log_metrics({"loss": 1.0}, 1)
    logger.close()
    assert curves(folder) == {"loss": [(1, 1.0)]}


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


def test_a_full_disk_costs_the_rest_of_the_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No thread dies of it with a traceback, and what is there can be read."""
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
    logger.close()
    close_log()
    out, err = capsys.readouterr()
    assert (out, err) == (f"warning: {file} can't be written (File too large): the run goes on without\n", "")
    assert curves(tmp_path) == {"loss": [(1, 1.0)]}
