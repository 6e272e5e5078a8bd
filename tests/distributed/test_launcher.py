"""Several devices: the same experiment as on one, from one folder, and nothing left when it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alexnet_lit import distributed
from alexnet_lit.errors import Mistake
from tests.conftest import REPOSITORY, SMALL, Train
from tests.test_run import interrupt, scalars, weights

TWO = (*SMALL, "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_test_batches=4")


def ranks_of(folder: Path) -> list[str]:
    """Processes of this run that are alive."""
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(folder) in line]


@pytest.mark.slow
def test_two_processes_are_one_run(command: Train) -> None:
    outcome = command(*TWO)

    assert (outcome.status, outcome.err) == (0, "")
    assert (outcome.result["world_size"], outcome.result["steps"]) == (2, 4)
    assert outcome.result["status"] == "completed"
    files = sorted(path.name for path in outcome.folder.rglob("*") if path.is_file())
    assert len([name for name in files if name.startswith("events.out.")]) == 1
    assert [name for name in files if name.endswith(".log")] == ["train.log"]
    assert outcome.out.count("features.conv1") == 1, "the console speaks once"
    assert not ranks_of(outcome.logs)

    longer = command(f"ckpt={outcome.folder}", "trainer.max_epochs=2", logs=outcome.logs, timeout=120)

    assert (longer.status, longer.err) == (0, "")
    assert longer.result["steps"] == 8


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(train: Train, tmp_path: Path) -> None:
    # 101 images in batches of 32: the last batch of 5 is smaller, and so is the last of 65 validation images.
    # One rank trains on 3 of these 5, as pairs that are mixed stay together.
    same = ["model.dropout=0", "data.train_size=101", "data.val_size=65", "trainer.precision=64-true"]
    same += ["data.augment.mixup=0.4", "data.augment.cutmix=1"]

    one = train(*TWO, *same, "trainer.devices=1", logs=tmp_path / "one")
    two = train(*TWO, *same, logs=tmp_path / "two")

    assert two.status == one.status == 0, two.err
    for name, value in weights(one.folder).items():
        torch.testing.assert_close(weights(two.folder)[name], value, rtol=1e-6, atol=1e-9)
    for tag in ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "lr"):
        assert [step for step, _ in scalars(two.folder)[tag]] == [step for step, _ in scalars(one.folder)[tag]]
        for (_, mine), (_, other) in zip(scalars(two.folder)[tag], scalars(one.folder)[tag], strict=True):
            assert mine == pytest.approx(other, rel=1e-6)
    assert two.result["test/acc"] == one.result["test/acc"]
    assert two.result["images"] == one.result["images"] == 101


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_interrupting_two_processes_saves_and_leaves_none(number: signal.Signals, tmp_path: Path, train: Train) -> None:
    arguments = [*TWO, "trainer.max_epochs=20", "callbacks.progress.line_seconds=0.5", "data.train_size=320"]

    stopped = interrupt(arguments, tmp_path / "logs", at="epoch 1/20  ", number=number)

    assert stopped.returncode == 130, stopped.stderr
    (folder,) = (tmp_path / "logs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["world_size"]) == ("interrupted", 2)
    assert not ranks_of(tmp_path)

    resumed = train(f"ckpt={folder}", "trainer.max_epochs=1", logs=tmp_path / "logs")

    assert resumed.status == 0, resumed.err
    assert resumed.result["steps"] == 10


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_run_down(tmp_path: Path) -> None:
    arguments = [*TWO, "trainer.max_epochs=200", "callbacks.progress.line_seconds=0.5", f"paths.logs={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-u", str(REPOSITORY / "train.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    next(line for line in process.stdout if "epoch 1/200  " in line)
    ranks = subprocess.run(["pgrep", "-f", f"alexnet_lit.run {tmp_path}"], capture_output=True, text=True, check=True)

    os.kill(int(ranks.stdout.split()[-1]), signal.SIGKILL)
    process.communicate(timeout=60)

    assert process.returncode == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["status"] == "failed"
    assert not ranks_of(tmp_path)


def test_a_launch_leaves_the_environment_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ)
    script = tmp_path / "rank.py"
    script.write_text(
        "import os, sys\n"
        "from alexnet_lit import distributed\n"
        "assert distributed.is_rank() and os.environ['WORLD_SIZE'] == '2'\n"
        "open(os.path.join(sys.argv[1], str(distributed.rank())), 'w').write(os.environ['OMP_NUM_THREADS'])\n"
    )

    assert distributed.launch([str(script), str(tmp_path)], ranks=2) == 0

    threads = str(max(1, distributed.cores() // 2))
    assert [(tmp_path / rank).read_text() for rank in "01"] == [os.environ.get("OMP_NUM_THREADS", threads)] * 2
    assert dict(os.environ) == before
    assert not distributed.is_rank()


def test_auto_is_one_device_of_the_best_kind_there_is() -> None:
    kind, count = distributed.resolve("auto", 1)
    assert kind == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert count == 1
    assert distributed.resolve("cpu", "auto") == ("cpu", 1)
    assert distributed.resolve("cpu", "2") == ("cpu", 2)


@pytest.mark.parametrize("devices", [0, -2, "two", 1.5, True])
def test_refuses_what_is_no_number_of_devices(devices: int) -> None:
    with pytest.raises(Mistake, match=r"trainer\.devices=.*: use a number of devices from 1, or auto"):
        distributed.resolve("cpu", devices)


def test_bf16_is_never_chosen_by_itself_on_a_cpu() -> None:
    assert distributed.resolve_precision("auto", "cpu") == "32-true"
    assert distributed.resolve_precision("bf16-mixed", "cpu") == "bf16-mixed"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_trains_in_bf16_where_it_can(train: Train) -> None:
    outcome = train(*SMALL, "trainer.max_epochs=1")
    assert outcome.status == 0, outcome.err
    assert outcome.result["precision"] == ("bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true")
    assert outcome.result["device"] == torch.cuda.get_device_name()
