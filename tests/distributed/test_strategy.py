"""Several devices are the same experiment, only faster; and what crosses between them."""

from pathlib import Path

import pytest
import torch

from tests.conftest import Train
from tests.processes import Runs
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


def test_two_ranks_accumulate_gradients_as_one_does(train: Train, tmp_path: Path) -> None:
    typed = [*TWENTY, "trainer.strategy=ddp", "trainer.limit_train_batches=8", "trainer.precision=64-true"]
    typed += ["trainer.accumulate_grad_batches=4"]
    run = Runs(tmp_path / "two", ranks=2)
    assert run(*typed) == [0, 0], run.text
    assert_same(train(*typed), run)


def test_gradients_in_bf16_are_nearly_the_same(tmp_path: Path) -> None:
    runs = {name: Runs(tmp_path / name, ranks=2) for name in ("ddp", "ddp_bf16")}
    for name, run in runs.items():
        assert run(*TWENTY, f"trainer.strategy={name}", "trainer.limit_train_batches=8") == [0, 0], run.text
    exact, rounded = (torch.cat([value.flatten() for value in weights(run.folder).values()]) for run in runs.values())
    assert 1e-6 < (rounded - exact).norm() / exact.norm() < 1e-2
