"""What tests share: the command line inside this process and as a process, and small real runs."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]

# Tests that run side by side share the cores out, for what they start too. torch reads it when it is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

# What a shell puts into the background ignores Ctrl-C, and so would all that is started here and waits for one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # which nohup ignores
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need what is not here: POSIX's signals, links and pipes; /proc, /dev/full; a CUDA device."""
    import torch  # not before OMP_NUM_THREADS is set

    here = {"posix": os.name == "posix", "linux": sys.platform == "linux", "gpu": torch.cuda.is_available()}
    for item in items:
        for mark in [mark.name for mark in item.iter_markers() if not here.get(mark.name, True)]:
            item.add_marker(pytest.mark.skip(reason=f"needs {mark}"))


# The real net on real images, made small: at 96 px a step is eight times cheaper than at 224 px.
SMALL = ("data=sample", "data.image_size=96", "data.batch_size=32", "data.val_size=64", "data.train_size=128")


class Logs:
    """The runs in a folder."""

    logs: Path

    @property
    def folder(self) -> Path:
        """The one run folder that there is."""
        (folder,) = (self.logs / "runs").iterdir()
        return folder

    @property
    def result(self) -> dict[str, Any]:
        """The run's result.json."""
        return dict(json.loads((self.folder / "result.json").read_text()))


@dataclass(frozen=True)
class Outcome(Logs):
    """How a command ended, what it printed, and where its runs are."""

    status: int
    out: str
    err: str
    logs: Path

    @property
    def refusal(self) -> str:
        """The one line that a mistake costs, without `error: `."""
        assert (self.status, self.out, self.err.count("\n"), self.err[:7]) == (2, "", 1, "error: "), self.err
        return self.err[7:-1]

    def ok(self) -> "Outcome":
        """Itself, if the command has succeeded and left nothing on stderr."""
        assert (self.status, self.err) == (0, ""), self.err
        return self


Train = Callable[..., Outcome]


def make_runs_cheap() -> None:
    """Let runs of this process leave no curves.png, which takes as long as all else of a small one, and compose once.

    Hydra composes a config twice, first for hydra.mode alone, which nothing but a ready sweep sets.
    """
    from hydra._internal.hydra import Hydra
    from tensorboard.summary.writer import event_file_writer as files

    from alexnet_lit.callbacks import figures

    mode = Hydra.get_mode

    def get_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        return mode(hydra, config_name, overrides) if "sweep" in str(overrides) else None

    Hydra.get_mode = get_mode  # type: ignore[method-assign, assignment] # tests/test_run.py has a run as it is
    figures.draw_curves = lambda *_: None
    # Event files are read by name: second, host, process, number of the file, here always of seven digits.
    files._global_uid = files.AtomicCounter(10**6)


@pytest.fixture(scope="session", autouse=True)
def _cheap_runs() -> None:
    make_runs_cheap()


def python(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """A Python that has imported nothing yet, and what it printed."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8", "timeout": 300, **options}
    return subprocess.run([sys.executable, *arguments], check=False, **options)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """`python train.py ...` inside this process: imports are paid for once."""
    from alexnet_lit.app import main

    def call(*arguments: str, logs: Path = tmp_path / "logs") -> Outcome:
        monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "train.py"), *arguments, f"paths.logs={logs}"])
        capfd.readouterr()
        status = main()
        out, err = capfd.readouterr()
        return Outcome(status, out, err, logs)

    return call


@pytest.fixture(scope="session")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that has learned something, a LeNet with normalisation at 28 px: not to be changed."""
    net = ("model=lenet", "model.activation=relu", "model.init=kaiming", "model.lrn=true", "data.image_size=28")
    recipe = ("data=sample", "optimizer=adamw", "optimizer.lr=3e-3", "data.batch_size=32", "trainer.max_epochs=2")
    return small_run(tmp_path_factory.mktemp("lenet"), *net, *recipe)


@pytest.fixture(scope="session")
def rgb(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of a small run on colour pictures in folders, and that of these, without val/: not to be changed."""
    from tests.pictures import TINY, fill

    root = tmp_path_factory.mktemp("rgb")
    pictures = fill(root / "pictures", train=20, test=5)
    recipe = ("model.activation=relu", "model.init=kaiming", "optimizer=adamw", "optimizer.lr=3e-3")
    data = (*TINY, f"data.dir={pictures}", "data.batch_size=8")
    return small_run(root / "logs", *data, *recipe, "trainer.max_epochs=5"), pictures


def small_run(logs: Path, *arguments: str) -> Path:
    """The folder of a run or sweep that completed, without a logger unless one is named, for more than one test."""
    from alexnet_lit.app import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "logger=none", *arguments, f"paths.logs={logs}"])
        assert main() == 0
    (folder,) = logs.glob("*/*")
    return folder


def shrink() -> None:
    """AlexNet with few kernels and hidden units: more of them would cost most of the time, and show nothing more."""
    from alexnet_lit.nets.alexnet import DESIGNS

    for name, design in DESIGNS.items():
        convolutions = tuple(each._replace(channels=each.channels // 8) for each in design.convolutions)
        DESIGNS[name] = design._replace(convolutions=convolutions, hidden=(64, 48))


@pytest.fixture
def small_nets() -> Iterator[None]:
    """The same for a test."""
    from alexnet_lit.nets.alexnet import DESIGNS

    before = dict(DESIGNS)
    shrink()
    yield
    DESIGNS.update(before)


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Train:
    """`python -m alexnet_lit VERB ...` inside this process, in an empty folder."""
    from alexnet_lit.__main__ import main

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["alexnet-lit", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), out, err, tmp_path)

    monkeypatch.chdir(tmp_path)
    return call


def after_waiting(call: Callable[[], Any], folder: Path, caplog: pytest.LogCaptureFixture) -> list[Any]:
    """What two calls at a time return that have both waited for the lock of a folder, each as a process would."""
    folder.mkdir(exist_ok=True)
    with caplog.at_level(logging.INFO, "alexnet_lit"), ThreadPoolExecutor(2) as pool:
        with FileLock(folder / ".lock"):
            both = [pool.submit(call) for _ in range(2)]
            deadline = time.monotonic() + 60
            while caplog.text.count(f"waiting for another process, which writes into {folder}") < 2:
                assert time.monotonic() < deadline, caplog.text
                time.sleep(0.01)
        return [each.result() for each in both]
