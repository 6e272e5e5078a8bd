"""Pictures of a run on several devices: one event file, counted over all images, once each, on any strategy."""

import os
from pathlib import Path
from typing import Any

import pytest

from alexnet_lit.callbacks.tensorboard_images import TensorBoardImages
from tests.callbacks.test_tensorboard_images import OF_TEST, OF_VALIDATION, board, steps
from tests.processes import LENET, Runs, rank_group

pytestmark = pytest.mark.slow


def watch() -> None:
    """Pictures at each validation on the first rank alone, which writes down how many images it draws."""
    draw = TensorBoardImages._draw_predictions

    def counted(self: TensorBoardImages, *more: Any) -> None:
        if self._waiting is not None:
            stage, _, counts, _ = self._waiting
            with Path(os.environ["COUNTS"]).open("a") as file:
                file.write(f"{os.environ['RANK']} {stage} {int(counts.sum())}\n")
        draw(self, *more)

    TensorBoardImages._draw_predictions = counted  # type: ignore[method-assign, assignment] # in this process alone


@pytest.mark.parametrize("trainer", ["default", "towers"])
def test_each_image_is_counted_once(trainer: str, tmp_path: Path) -> None:
    def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
        return {**rank_group(rank, ranks, port), "COUNTS": str(tmp_path / "counts")}

    run = Runs(tmp_path / "logs", ranks=2, environment=environment)
    short = (
        "trainer.limit_test_batches=2",
        "trainer.limit_train_batches=4",
        "trainer.max_epochs=2",
    )
    assert run(*LENET, *short, f"trainer={trainer}", "callbacks.board.share=1.0", before=watch) == [0, 0], run.text

    assert (tmp_path / "counts").read_text().splitlines() == [*["0 val 64"] * 2, "0 test 64"]
    assert len(list(run.folder.glob("events.*"))) == 1
    found = steps(board(run.folder))
    assert set(found) == {"train/batch", *OF_VALIDATION, *OF_TEST}
    whole = trainer == "default"  # rather than parts, of which pictures of the net come at the end
    for tag in ("net/kernels", "net/activations"):
        assert found[tag] == ([4, 8] if whole else [8]), tag
