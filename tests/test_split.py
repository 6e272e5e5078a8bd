"""A net that several devices hold together is the net of one device: its losses, weights, checkpoints and scores."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.distributed.exchange import Exchange, Group
from alexnet_lit.distributed.part import Part
from alexnet_lit.errors import Mistake
from tests.conftest import Train
from tests.parts import spread, work
from tests.test_run import equal, scalars, weights

# At 65 px the smallest map is one pixel. The last batch of an epoch has 5 images, that of validation too.
DATA = ("data=sample", "data.image_size=65", "data.batch_size=8", "data.train_size=21", "data.val_size=13")
SHORT = (
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", "trainer.limit_test_batches=3"),
    *("scheduler=constant", "logger=none", "callbacks.progress.line_seconds=1000"),
)
PAPER = (*DATA, *SHORT, "model=alexnet_2012", "trainer.precision=64-true")
CURVES = ("train/loss", "train/acc", "val/loss", "val/acc", "test/loss", "test/acc")


@dataclass(frozen=True)
class Run:
    """What a run has left in its folder."""

    folder: Path

    @property
    def checkpoint(self) -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self.last, weights_only=True)
        return content

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        points: dict[str, list[tuple[int, float]]] = json.loads((self.folder / "points.json").read_text())
        return {tag: points[tag] for tag in CURVES}


def same(run: Run, other: Run) -> None:
    """Curves, weights and the optimizer's state are those of the other run, as float64 has them."""
    mine, theirs = run.checkpoint, other.checkpoint
    assert mine.keys() == theirs.keys()
    for tag, points in other.curves.items():
        assert [step for step, _ in run.curves[tag]] == [step for step, _ in points]
        assert [value for _, value in run.curves[tag]] == pytest.approx([value for _, value in points], rel=1e-6), tag
    assert list(mine["state_dict"]) == list(theirs["state_dict"])
    (my_state,), (their_state,) = mine["optimizer_states"], theirs["optimizer_states"]
    assert my_state["param_groups"] == their_state["param_groups"]
    pairs = [(mine["state_dict"], theirs["state_dict"])]
    pairs += [(my_state["state"][number], their_state["state"][number]) for number in their_state["state"]]
    for state, expected in pairs:
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            assert state[name].stride() == value.stride(), name
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-6 * largest(value), msg=name)
    assert mine["sums"]["train"] == pytest.approx(theirs["sums"]["train"], rel=1e-6)
    assert mine["callbacks"]["Speed"]["images"] == theirs["callbacks"]["Speed"]["images"]


def largest(value: Tensor) -> float:
    return float(value.abs().max())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A run on one device, in this process."""

    def call(name: str, *overrides: str) -> Run:
        folder = tmp_path_factory.mktemp(name)
        work(folder, overrides)
        return Run(folder)

    return call


@pytest.mark.slow
def test_two_devices_train_the_net_of_one(one: Callable[..., Run], tmp_path: Path) -> None:
    """Two towers and the hybrid, dropout and LRN on; and each goes on from the other's checkpoint."""
    alone = one("alone", *PAPER)
    longer = one("longer", *PAPER, "trainer.max_epochs=2", f"ckpt={alone.last}")

    towers, hybrid, joined = Run(tmp_path / "towers"), Run(tmp_path / "hybrid"), Run(tmp_path / "joined")
    statuses = spread(
        (towers.folder, (*PAPER, "trainer=towers")),
        (hybrid.folder, (*PAPER, "trainer=hybrid")),
        (joined.folder, (*PAPER, "trainer=towers", "trainer.max_epochs=2", f"ckpt={alone.last}")),
        ranks=2,
    )

    assert statuses == [0, 0]
    same(towers, alone)
    same(hybrid, alone)
    same(joined, longer)
    same(one("parted", *PAPER, "trainer.max_epochs=2", f"ckpt={towers.last}"), longer)


@pytest.mark.slow
def test_four_devices_train_the_net_of_one(one: Callable[..., Run], tmp_path: Path) -> None:
    """Two pairs of towers, and the hybrid; an ungrouped net, Adam. One image is left for the last batch."""
    switches = ("model.lrn=true", "model.dropout=0", "optimizer=adamw", "trainer.precision=64-true")
    course = (*DATA, *SHORT, *switches, "data.train_size=17")
    alone = one("alone", *course)

    towers, hybrid = Run(tmp_path / "towers"), Run(tmp_path / "hybrid")
    statuses = spread(
        (towers.folder, (*course, "trainer=towers", "trainer.devices=4")),
        (hybrid.folder, (*course, "trainer=hybrid", "trainer.devices=4")),
        ranks=4,
    )

    assert statuses == [0] * 4
    same(towers, alone)
    same(hybrid, alone)


@pytest.mark.slow
def test_killed_towers_go_on_bit_for_bit(tmp_path: Path) -> None:
    switches = ("model=lenet", "model.dropout=0.5", "model.lrn=true", "trainer=towers", "checkpoint.every_steps=1")
    lenet = (*DATA, *SHORT, *switches, "data.image_size=28", "trainer.max_epochs=3")
    straight, killed = Run(tmp_path / "straight"), Run(tmp_path / "killed")
    assert spread((straight.folder, lenet), ranks=2) == [0, 0]

    first = spread((killed.folder, lenet), ranks=2, kill=4)

    assert first == [1, -9]
    assert killed.checkpoint["global_step"] == 4
    assert spread((killed.folder, (*lenet, f"ckpt={killed.last}")), ranks=2) == [0, 0]
    assert equal(killed.checkpoint["state_dict"], straight.checkpoint["state_dict"])
    for tag, points in killed.curves.items():
        assert points == [point for point in straight.curves[tag] if point[0] >= points[0][0]], tag


@pytest.mark.slow
def test_towers_in_a_sweep(command: Train, train: Train, tmp_path: Path) -> None:
    lenet = (*DATA, *SHORT, "model=lenet", "data.image_size=28", "trainer.precision=64-true", "logger=tensorboard")
    alone = train(*lenet, logs=tmp_path / "alone")

    outcome = command(*lenet, "-m", "trainer=towers")

    assert (outcome.status, outcome.err) == (0, "")
    ((job,),) = ([path for path in sweep.iterdir() if path.is_dir()] for sweep in (outcome.logs / "sweeps").iterdir())
    result = json.loads((job / "result.json").read_text())
    assert result["world_size"] == 2
    for key in ("status", "images", "steps", "params"):
        assert result[key] == alone.result[key]
    for tag in CURVES:
        assert [value for _, value in scalars(job)[tag]] == pytest.approx([v for _, v in scalars(alone.folder)[tag]])
    for name, value in weights(alone.folder, "best").items():
        torch.testing.assert_close(weights(job, "best")[name], value, rtol=1e-6, atol=1e-6 * largest(value))
    loaded = alexnet_lit.load(job / "checkpoints" / "best.ckpt").state_dict()
    assert equal(loaded, {name: value.to(loaded[name].dtype) for name, value in weights(job, "best").items()})

    resumed = train(f"ckpt='{job}'", "trainer.strategy=auto", "trainer.devices=1", "trainer.max_epochs=2")

    assert resumed.status == 0, resumed.err
    result = json.loads((job / "result.json").read_text())
    assert (result["world_size"], result["steps"], result["images"]) == (1, 6, 42)


def part(*overrides: str, way: Any = "towers", size: int = 2) -> Part:
    net = alexnet_lit.build_net(alexnet_lit.compose("data=sample", *overrides))
    return Part(net, Group(size, 0), way)


def test_a_tower_is_the_paper_s() -> None:
    tower = part("model=alexnet_2012")

    shapes = [tuple(each.shape) for name, each in tower.named_parameters() if name.endswith("weight")]
    assert shapes == [
        *((48, 1, 11, 11), (128, 48, 5, 5), (192, 256, 3, 3), (192, 192, 3, 3), (128, 192, 3, 3)),
        *((2048, 9216), (2048, 4096), (10, 2048)),
    ]
    meetings = [name for name, layer in tower.named_modules() if isinstance(layer, Exchange)]
    assert meetings == [f"{place}_{layer}" for place, layer in MEETINGS]


MEETINGS = [
    ("features.exchange", "conv3"),
    ("classifier.exchange", "linear6"),
    ("classifier.exchange", "linear7"),
]


def test_a_hybrid_has_all_kernels_and_a_share_of_the_units() -> None:
    share = part("model=alexnet_owt", way="hybrid", size=4)

    sizes = [len(each) for name, each in share.named_parameters() if name.endswith("weight")]
    assert sizes == [64, 192, 384, 256, 256, 1024, 1024, 10]
    assert not [name for name, layer in share.features.named_modules() if isinstance(layer, Exchange)]


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Linear(2, 2), "Linear is no row of convolutions, then of linear layers"),
        ({"features": [nn.Conv2d(1, 3, 1)]}, "0 with its 3 outputs does not divide over 2 devices"),
        ({"features": [nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4)]}, "there is no way to split 1, a BatchNorm2d"),
        ({"features": [nn.Conv2d(2, 4, 1, groups=2)]}, "0 with its 4 outputs does not divide over 2 devices"),
    ],
)
def test_what_can_t_be_split_says_so(net: Any, reason: str) -> None:
    if isinstance(net, dict):
        layers, net = net["features"], nn.Module()
        net.features, net.classifier = nn.Sequential(*layers), nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(Mistake, match=f"trainer.strategy=towers: {reason}: use trainer.strategy=auto"):
        Part(net, Group(2, 0), "towers")
