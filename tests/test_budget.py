"""A run is as long as its budget, and can be repeated without one."""

import itertools
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import alexnet_lit
from alexnet_lit.budget import lay_out, seconds
from alexnet_lit.config import typed_overrides
from alexnet_lit.errors import UserError
from alexnet_lit.trial import Speeds
from tests.conftest import Train

TINY = ("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=100", "optimizer=adamw", "budget=8s")


@pytest.mark.parametrize(
    ("typed", "wanted"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5m", 90), ("2d", 172800), ("1m5s", 65)]
)
def test_a_time_is_read_as_people_write_it(typed: str, wanted: float) -> None:
    assert seconds(typed) == wanted


@pytest.mark.parametrize("typed", ["5", "m", "5 m", "5min", "-5m", "0s", "", 5, True])
def test_what_is_no_time_is_refused(typed: object) -> None:
    with pytest.raises(UserError, match=r"budget=.*: should be a time such as 90s, 5m or 1h30m"):
        seconds(typed)


CASES = list(itertools.product((100.0, 3000.0, 1e5), ("none", "ten_crop"), (1.0, 3), (1.0, 3), (-1, 50)))


@pytest.mark.parametrize(("left", "tta", "val", "test", "most"), CASES)
def test_all_that_a_run_does_fits_into_the_time_and_fills_it(
    left: float, tta: str, val: float, test: float, most: int
) -> None:
    config = alexnet_lit.compose("data=sample", f"data.tta={tta}", "data.augment.crop=0.875", "budget=5m")
    config.trainer.limit_val_batches, config.trainer.limit_test_batches = val, test
    config.trainer.max_steps = most
    _, data = alexnet_lit.build(config)
    speeds = Speeds(batch=0.4, image=0.01, save=0.5, measured=3.0)

    changes, told = lay_out(config, data, speeds, left)

    steps, interval = changes["trainer.max_steps"], changes["trainer.val_check_interval"]
    validations = steps // interval
    assert steps == validations * interval  # so that the last step is followed by the last validation
    images = {"val": 400 if val == 1.0 else 192, "test": 500 if test == 1.0 else 192}  # batches of 64
    views = 10 if tta == "ten_crop" else 1
    spent = steps * 0.4 + validations * (images["val"] * 0.01 + 1) + images["test"] * views * 0.01
    spent += steps // 25 * 0.5 + steps // 1000 * 0.5  # last.ckpt: each epoch has 25 batches
    assert spent < left
    assert spent > 0.9 * left or 45 < steps <= most
    assert validations * (images["val"] * 0.01 + 1) < max(0.11 * left, images["val"] * 0.01 + 1.1)
    assert f"{steps:,} steps of 64 images at 160.0 images/s" in told


def test_a_time_that_is_too_short_is_told_with_what_it_would_take() -> None:
    config = alexnet_lit.compose("data=sample", "budget=5s")
    _, data = alexnet_lit.build(config)
    with pytest.raises(UserError, match=r"budget=5s: beginning, validation \(400 images\) and test \(500\) take 1\d s"):
        lay_out(config, data, Speeds(batch=0.4, image=0.01, save=0.5, measured=1.0), left=4.0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


@pytest.mark.slow
def test_the_same_again_is_the_same(train: Train, tmp_path: Path) -> None:
    first = train(*TINY, logs=tmp_path / "first")
    assert first.status == 0, first.err
    told = re.search(r"the very same again, without budget=: (.*)", first.out)
    assert told is not None

    saved = OmegaConf.load(first.folder / ".hydra" / "config.yaml")
    assert saved.budget is None
    assert saved.trainer.max_steps == first.result["steps"] > 4
    assert "budget=8s" in typed_overrides(first.folder)
    assert not list(first.folder.glob(".trial*"))

    again = train(*TINY[:-1], *told[1].split())
    assert again.status == 0, again.err
    for key, value in weights(first.folder).items():
        assert torch.equal(value, weights(again.folder)[key]), key
    assert first.result["test/acc"] == again.result["test/acc"]


@pytest.mark.slow
def test_processes_are_measured_as_they_will_run(command: Train) -> None:
    outcome = command(*TINY, "budget=4m", "trainer.max_steps=50", "trainer.devices=2")
    assert outcome.status == 0, outcome.err
    assert (outcome.result["status"], outcome.result["world_size"]) == ("completed", 2)
    assert outcome.result["steps"] == OmegaConf.load(outcome.folder / ".hydra" / "config.yaml").trainer.max_steps
    assert 40 < outcome.result["steps"] <= 50  # all validations as far apart
    assert not list(outcome.folder.glob(".trial*"))


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            ("scheduler=plateau",),
            "budget=8s: scheduler.monitor=val/loss looks at whole epochs: use scheduler=one_cycle",
        ),
        (("trainer.accumulate_grad_batches=2",), "budget=8s: can't be laid out with trainer.accumulate_grad_batches"),
        (("budget=soon",), "budget=soon: should be a time such as 90s, 5m or 1h30m"),
        (("budget=0.01s",), "budget=0.01s: beginning, validation"),
        (("data.val_size=5000",), "data.val_size=5000 leaves none"),
    ],
)
def test_what_cant_be_sized_is_told_in_a_line_and_leaves_nothing(
    train: Train, typed: tuple[str, ...], line: str
) -> None:
    outcome = train(*TINY, *typed)
    assert outcome.status == 2
    assert f"error: {line}" in outcome.err
    assert "Traceback" not in outcome.err
    assert not list((outcome.logs / "runs").iterdir())
