"""Several devices are the same experiment, only faster; and what crosses between them."""

import os
from pathlib import Path

import pytest
import torch
from torch.distributed import GradBucket  # type: ignore[attr-defined] # its types don't say so
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from alexnet_lit.distributed import strategy
from tests.conftest import Train
from tests.processes import Runs, rank_group
from tests.runs import assert_same, weights

pytestmark = pytest.mark.slow

# Twenty steps with every augmentation, and no kink in the net at which float32 could part them. 36 divides over two and
# three ranks; of the last batch of training, and of validation, one rank has the one image and the others have none.
TWENTY = (
    *("data=sample", "model=lenet", "model.dropout=0", "model.activation=tanh", "data.image_size=28"),
    *("data.batch_size=36", "data.train_size=685", "data.val_size=37", "trainer.accelerator=cpu"),
    *("data.augment.crop=0.875", "data.augment.translate=0.1", "data.augment.color=0.1", "data.augment.erase=0.5"),
    *("trainer.max_epochs=1", "trainer.log_every_n_steps=1", "~callbacks.board"),
)


def test_three_ranks_learn_what_one_learns(train: Train, tmp_path: Path) -> None:
    typed = [*TWENTY, "trainer.precision=64-true"]
    one = train(*typed)
    assert one.result["steps"] == 20

    three = Runs(tmp_path / "three", ranks=3)
    assert three(*typed) == [0] * 3, three.text
    assert_same(one, three)
    for name in ("test/acc", "val/acc", "images"):  # counted in whole images
        assert three.result[name] == one.result[name]
    assert three.result["world_size"] == 3


def count_exchanges() -> None:
    """A dot into $EXCHANGES each time that a gradient crosses."""

    def hook(state: object, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        with Path(os.environ["EXCHANGES"]).open("a") as file:
            file.write(".")
        return allreduce_hook(None, bucket)  # type: ignore[arg-type] # None is the default group

    strategy.HOOKS["ddp"] = hook


def test_gradients_cross_once_a_step_where_they_accumulate(train: Train, tmp_path: Path) -> None:
    typed = [*TWENTY, "trainer.strategy=ddp", "trainer.limit_train_batches=8", "trainer.precision=64-true"]
    typed += ["trainer.accumulate_grad_batches=4"]

    def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
        return {**rank_group(rank, ranks, port), "EXCHANGES": str(tmp_path / f"exchanges_{rank}")}

    run = Runs(tmp_path / "two", ranks=2, environment=environment)
    assert run(*typed, before=count_exchanges) == [0, 0], run.text

    assert [(tmp_path / f"exchanges_{rank}").read_text() for rank in range(2)] == [".."] * 2
    assert_same(train(*typed), run)


def test_gradients_in_bf16_are_nearly_the_same(tmp_path: Path) -> None:
    runs = {name: Runs(tmp_path / name, ranks=2) for name in ("ddp", "ddp_bf16")}
    for name, run in runs.items():
        assert run(*TWENTY, f"trainer.strategy={name}", "trainer.limit_train_batches=8") == [0, 0], run.text

    exact, rounded = (torch.cat([value.flatten() for value in weights(run.folder).values()]) for run in runs.values())

    assert 1e-6 < (rounded - exact).norm() / exact.norm() < 1e-2
