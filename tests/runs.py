"""What a run leaves behind, a signal in the middle of one, and what must not depend on threads."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_lit.lit import Classifier
from tests.conftest import Logs

CURVES = ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc", "lr", "grad_norm")


def saved(folder: Path, name: str = "last") -> dict[str, Any]:
    """A checkpoint of the run in this folder."""
    return dict(torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True))


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return dict(saved(folder, name)["state_dict"])


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as TensorBoard reads them."""
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def contents(folder: Path, *, but: str = "") -> dict[Path, tuple[int, bytes]]:
    """All files with their times; but those of one name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != but)
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@contextmanager
def stop_at(step: int, number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """A signal during that step, counted from 1, of the runs of this process: once, as its first batch begins."""
    begin, sent = Classifier.on_train_batch_start, False

    def on_train_batch_start(module: Classifier, *arguments: Any) -> None:
        nonlocal sent
        begin(module, *arguments)
        if module.global_step == step - 1 and not sent:
            sent = True
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "on_train_batch_start", on_train_batch_start)
        yield


def same_with_any(compute: Callable[[], torch.Tensor]) -> bool:
    """Whether one, two and five threads give the same numbers, to the last bit."""
    threads = torch.get_num_threads()
    outcomes = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            outcomes.append(compute())
    finally:
        torch.set_num_threads(threads)
    return all(torch.equal(outcomes[0], other) for other in outcomes[1:])


def assert_same(run: Logs, one: Logs) -> None:
    """Scores, weights and the optimizer's state are those of one device, to the rounding of float64."""
    for tag in CURVES:
        mine, theirs = scalars(run.folder)[tag], scalars(one.folder)[tag]
        assert [step for step, _ in mine] == [step for step, _ in theirs], tag
        assert [value for _, value in mine] == pytest.approx([value for _, value in theirs], rel=1e-6), tag
    for key in ("images", "steps", "params", "status"):
        assert run.result[key] == one.result[key]
    content, expected = saved(run.folder), saved(one.folder)
    assert content["sums"]["train"] == pytest.approx(expected["sums"]["train"], rel=1e-6)
    (state,), (other,) = content["optimizer_states"], expected["optimizer_states"]
    assert state["param_groups"] == other["param_groups"]
    pairs = [(content["state_dict"], expected["state_dict"])]
    pairs += [(state["state"][number], other["state"][number]) for number in other["state"]]
    for values, others in pairs:
        assert list(values) == list(others)
        for name, value in others.items():
            assert values[name].stride() == value.stride(), name
            close = 1e-6 * float(value.abs().max())
            torch.testing.assert_close(values[name], value, rtol=1e-6, atol=close, msg=name)
