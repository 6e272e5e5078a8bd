"""Pictures of a run on several devices: one event file, counted over all images, once each, on any strategy."""

import os
from pathlib import Path
from typing import Any

import pytest

from alexnet_lit.callbacks.tensorboard_images import TensorBoardImages
from tests.callbacks.test_tensorboard_images import OF_TEST, OF_VALIDATION, PROJECTOR, board, steps
from tests.distributed.towers.test_strategy import shrink
from tests.processes import LENET, Runs, rank_group

pytestmark = pytest.mark.slow

PAPER = ("model=alexnet_2012", "data.image_size=65", "trainer.limit_train_batches=2", "trainer.max_epochs=2")


def watch() -> None:
    """Pictures at each validation on the first rank alone, which writes down how many images it draws."""
    shrink()
    draw = TensorBoardImages._draw_predictions

    def counted(self: TensorBoardImages, *more: Any) -> None:
        if self._waiting is not None:
            stage, _, counts, _ = self._waiting
            with Path(os.environ["COUNTS"]).open("a") as file:
                file.write(f"{os.environ['RANK']} {stage} {int(counts.sum())}\n")
        draw(self, *more)

    TensorBoardImages._draw_predictions = counted  # type: ignore[method-assign, assignment] # in this process alone


@pytest.mark.parametrize(
    ("typed", "whole"),
    [(LENET, True), ((*LENET, *PAPER, "trainer=towers"), False), ((*LENET, *PAPER, "trainer=hybrid"), False)],
    ids=["ddp", "towers", "hybrid"],
)
def test_each_image_is_counted_once(typed: tuple[str, ...], whole: bool, tmp_path: Path) -> None:
    def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
        return {**rank_group(rank, ranks, port), "COUNTS": str(tmp_path / "counts")}

    run = Runs(tmp_path / "logs", ranks=2, environment=environment)
    assert run(*typed, "trainer.limit_test_batches=2", "callbacks.board.share=1.0", before=watch) == [0, 0], run.text

    epochs = 3 if whole else 2
    assert (tmp_path / "counts").read_text().splitlines() == [*["0 val 64"] * epochs, "0 test 64"]
    assert len(list(run.folder.glob("events.*"))) == 1
    found = steps(board(run.folder))
    assert set(found) == {"train/batch", *OF_VALIDATION, *OF_TEST}
    last = run.result["steps"]
    for tag in ("net/kernels", "net/activations"):
        assert found[tag] == ([20, 40, 60] if whole else [last]), tag
    assert (run.folder / PROJECTOR).exists() is whole
