"""`python train.py ...` in processes of its own, several at a time as ranks, none of which imports everything anew."""

import multiprocessing
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

from alexnet_lit import app
from tests.conftest import REPOSITORY, Logs, make_runs_cheap

Environment = Callable[[int, int, int], Mapping[str, str]]  # of rank, number of ranks, free port

# Three epochs of 20 steps of milliseconds; dropout and mirror on. The last batch of an epoch is a smaller one.
LENET = (
    *("data=sample", "model=lenet", "model.dropout=0.5", "data.image_size=28", "data.batch_size=32"),
    *("data.train_size=635", "data.val_size=64", "trainer.accelerator=cpu", "trainer.max_epochs=3"),
    *("trainer.log_every_n_steps=1", "trainer.limit_test_batches=1", "checkpoint.every_steps=2"),
)


def rank_group(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """What torchrun and others set."""
    values = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{key: str(value) for key, value in values.items()}}


def free_port() -> int:
    """A port that nobody listens at, below those that connections are given."""
    with socket.create_server(("127.0.0.1", 12_000 + secrets.randbelow(20_000))) as server:
        return int(server.getsockname()[1])


def enter(arguments: list[str], output: str, environment: Mapping[str, str], before: Callable[[], object]) -> None:
    """`python train.py <arguments>`, its text into the file `output`, once `before` has been called."""
    with Path(output).open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    make_runs_cheap()
    before()
    sys.argv = [str(REPOSITORY / "train.py"), *arguments]
    sys.exit(app.main())


class Runs(Logs):
    """Starts runs from a process that has imported everything already."""

    def __init__(self, logs: Path, *, ranks: int = 1, environment: Environment | None = None) -> None:
        self.logs = logs
        self.ranks = ranks
        self.environment = environment or (rank_group if ranks > 1 else lambda *_: {})
        self.output = logs.with_suffix(".txt")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as `main` does before torch is imported
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.processes", "alexnet_lit.run"])

    def start(self, *arguments: str, before: Callable[[], object] = int) -> list[ForkServerProcess]:
        """A process a rank."""
        port = free_port()
        typed = [*arguments, f"paths.logs={self.logs}"]
        environments = [self.environment(rank, self.ranks, port) for rank in range(self.ranks)]
        given = [(typed, str(self.output), environment, before) for environment in environments]
        processes = [self.context.Process(target=enter, args=each) for each in given]
        for process in processes:
            process.start()
        return processes

    def start_until(self, text: str, *arguments: str) -> list[ForkServerProcess]:
        """Start, and wait until they have printed `text`."""
        processes = self.start(*arguments)
        deadline = time.monotonic() + 100
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            assert any(process.is_alive() for process in processes), self.text
            time.sleep(0.05)
        return processes

    def wait(self, processes: list[ForkServerProcess], timeout: float = 100) -> list[int]:
        """Exit status of each; of a killed process, minus the signal."""
        for process in processes:
            process.join(timeout)
        statuses = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
        assert None not in statuses, self.text
        return [status for status in statuses if status is not None]

    def __call__(self, *arguments: str, before: Callable[[], object] = int) -> list[int]:
        """Start, and wait."""
        return self.wait(self.start(*arguments, before=before))

    @property
    def text(self) -> str:
        """What all of them have printed."""
        return self.output.read_text() if self.output.exists() else ""
