"""A net that several devices hold together is the net of one device: its losses, weights, checkpoints and scores."""

import signal
from pathlib import Path

import pytest
import torch
from torch import nn

import alexnet_lit
from alexnet_lit.distributed.towers.parts import DeviceGroup, Exchange, Part
from alexnet_lit.errors import UserError
from tests.conftest import Train, shrink
from tests.processes import Runs
from tests.runs import CURVES, assert_same, equal, saved, scalars, weights
from tests.trouble import trouble

# At 65 px the last map is one pixel. The last batch of an epoch has 5 images, and so has that of validation.
SHORT = (
    *("data=sample", "data.batch_size=8", "data.train_size=21", "data.val_size=13", "trainer.accelerator=cpu"),
    *("trainer.max_epochs=1", "trainer.log_every_n_steps=1", "trainer.limit_test_batches=1", "scheduler=constant"),
    *("trainer.precision=64-true", "data.image_size=65", "~callbacks.board"),
)
LENET = (*SHORT, "model=lenet", "model.dropout=0.5", "model.lrn=true", "data.image_size=28")
MORE = "trainer.max_epochs=2"


@pytest.mark.slow
def test_two_devices_train_the_net_of_one(small_nets: None, train: Train, tmp_path: Path) -> None:
    """The paper's net, dropout and LRN on; one device and two go on from each other's checkpoint."""
    paper = [*SHORT, "model=alexnet_2012", "optimizer=sgd"]
    one = train(*paper, logs=tmp_path / "one")
    for way in ("towers", "hybrid"):
        run = Runs(tmp_path / way, ranks=2)
        assert run(*paper, f"trainer={way}", before=shrink) == [0, 0], run.text
        assert_same(run, one)

    parted = Runs(tmp_path / "one", ranks=2)
    assert parted(f"ckpt={one.folder}", MORE, "trainer.strategy=towers", "trainer.devices=2", before=shrink) == [0, 0]
    run = Runs(tmp_path / "towers", ranks=2)
    alone = ("trainer.strategy=auto", "trainer.devices=1")
    joined = train(f"ckpt={run.folder}", MORE, *alone, logs=tmp_path / "towers").ok()
    assert (parted.result["world_size"], joined.result["world_size"]) == (2, 1)
    assert_same(parted, joined)


@pytest.mark.slow
def test_towers_of_another_net_train_as_one(train: Train, tmp_path: Path) -> None:
    """A net without groups, Adam, gradients that accumulate, and a last batch of one image."""
    lenet = [*LENET, "model.dropout=0", "optimizer=adamw", "data.train_size=17", "trainer.accumulate_grad_batches=2"]
    one = train(*lenet)
    run = Runs(tmp_path / "towers", ranks=2)
    assert run(*lenet, "trainer=towers") == [0, 0], run.text
    assert_same(run, one)


@pytest.mark.slow
def test_towers_of_which_one_was_killed_go_on_bit_for_bit(tmp_path: Path) -> None:
    typed = [*LENET, "trainer=towers", MORE, "checkpoint.every_steps=1", "trainer.precision=32-true"]
    straight, killed = (Runs(tmp_path / name, ranks=2) for name in ("straight", "killed"))
    assert straight(*typed) == [0, 0], straight.text

    assert killed(*typed, trouble("kill", tmp_path / "ahead", rank=1, at=4)) == [1, -signal.SIGKILL], killed.text
    assert saved(killed.folder)["global_step"] == 4
    assert killed(f"ckpt={killed.folder}") == [0, 0], killed.text

    assert equal(weights(killed.folder), weights(straight.folder))
    for tag in CURVES:
        assert scalars(killed.folder)[tag] == scalars(straight.folder)[tag], tag


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="takes two GPUs")
@pytest.mark.parametrize("way", ["towers", "hybrid"])
def test_two_gpus_train_the_net_of_one(way: str, train: Train, tmp_path: Path) -> None:
    paper = [*SHORT, "model=alexnet_2012", "optimizer=sgd", "trainer.accelerator=gpu"]
    one = train(*paper, logs=tmp_path / "one")
    assert_same(train(*paper, f"trainer={way}").ok(), one)


def test_a_tower_is_the_papers_and_a_hybrid_has_all_kernels() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model=alexnet_2012"))
    tower, hybrid = Part(net, DeviceGroup(2, 0), "towers"), Part(net, DeviceGroup(4, 0), "hybrid")

    shapes = [tuple(each.shape) for name, each in tower.named_parameters() if name.endswith("weight")]
    assert shapes == [
        *((48, 1, 11, 11), (128, 48, 5, 5), (192, 256, 3, 3), (192, 192, 3, 3), (128, 192, 3, 3)),
        *((2048, 9216), (2048, 4096), (10, 2048)),
    ]
    before = [name for name, layer in tower.named_modules() if isinstance(layer, Exchange)]
    assert before == ["features.exchange_conv3", "classifier.exchange_linear6", "classifier.exchange_linear7"]
    outputs = [len(each) for name, each in hybrid.named_parameters() if name.endswith("weight")]
    assert outputs == [96, 256, 384, 384, 256, 1024, 1024, 10]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([], "Linear is no row of convolutions, then of linear layers"),
        ([nn.Conv2d(1, 3, 1)], "0 with its 3 outputs does not divide over 2 devices"),
        ([nn.Conv2d(2, 4, 1, groups=2)], "0 with its 4 outputs does not divide over 2 devices"),
        ([nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)], "there is no way to split 1, a BatchNorm2d"),
    ],
)
def test_what_can_t_be_split_says_so(layers: list[nn.Module], reason: str) -> None:
    net: nn.Module = nn.Linear(2, 2)
    if layers:
        net.features, net.classifier = nn.Sequential(*layers), nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(UserError, match=f"trainer.strategy=towers: {reason}: use trainer.strategy=auto"):
        Part(net, DeviceGroup(2, 0), "towers")
