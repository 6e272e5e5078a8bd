"""A net of one's own, outside the package and its conf/: it trains, and every verb takes it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from alexnet_lit.tools.demo import explain
from alexnet_lit.tools.predict import Predictor
from tests.conftest import Train
from tests.pictures import picture

CODE = '''
import torch
from torch import nn

class Tiny(nn.Module):
    """Its first convolution is not called features.conv1."""
    def __init__(self, *, in_channels, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(64, num_classes)
    def forward(self, images):
        return self.head(self.body(images))

class Pair(nn.Module):
    """Its output is no tensor."""
    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(28 * 28, classes))
    def forward(self, images):
        return images.flatten(1) @ self.weight, images

class Bare(nn.Module):
    """Neither convolutions nor linear layers."""
    def __init__(self, *, num_classes):
        super().__init__()
        self.pair = Pair(num_classes)
    def forward(self, images):
        return self.pair(images)[0]
'''
KEYS = {"Tiny": "in_channels: null\nnum_classes: null\n", "Bare": "num_classes: 10\n"}


SHORT = (
    "data.batch_size=8",
    "trainer.max_epochs=1",
    *(f"trainer.limit_{e}_batches=3" for e in ("train", "val", "test")),
)
Own = Callable[[str], tuple[str, ...]]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Own:
    """What is typed for one of these nets, each in a file and a group outside the package."""
    (tmp_path / "my_net_for_tests.py").write_text(CODE)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    monkeypatch.delitem(sys.modules, "my_net_for_tests", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def typed(name: str) -> tuple[str, ...]:
        (tmp_path / "conf" / "model" / "own.yaml").write_text(f"_target_: my_net_for_tests.{name}\n{KEYS[name]}")
        return "--config-dir", str(tmp_path / "conf"), "model=own", "data=sample", "data.image_size=28"

    return typed


@pytest.mark.parametrize("name", KEYS)
def test_a_net_of_ones_own_trains_and_every_verb_takes_it(
    name: str, own: Own, train: Train, verb: Train, tmp_path: Path
) -> None:
    trained = train(*own(name), *SHORT)

    assert (trained.status, trained.err) == (0, "")
    events = EventAccumulator(str(trained.folder), {IMAGES: 0}).Reload()
    assert ("net/kernels" in events.Tags()["images"]) == (name == "Tiny")
    assert "net/activations" in events.Tags()["images"]
    run, source = str(trained.folder), tmp_path / "bag.png"
    picture("bag", 0).save(source)
    (found,) = json.loads(verb("predict", run, str(source), "--json").out)
    assert len(found["classes"]) == 3
    assert json.loads(verb("evaluate", run, "--json").out)["images"] == 500
    if name == "Tiny":
        exported = verb("export", run)
        assert exported.status == 0, exported.err
    summary = verb("summary", *own(name))
    assert summary.status == 0, summary.err
    assert {"Tiny": "head     Linear", "Bare": "pair    Pair"}[name] in summary.out
    if name == "Tiny":
        assert verb("report", str(trained.logs), "--out=report").status == 0
        longer = train(f"ckpt={run}", "trainer.max_epochs=2")
        assert (longer.status, longer.result["epochs"]) == (0, 2), longer.err

    predictor = Predictor(trained.folder / "checkpoints" / "best.ckpt", device="cpu")
    found = explain(predictor, str(source))
    assert found.seen.size == (28, 28)
    assert len(found.probabilities) == 10
    assert (found.maps is not None) == (name == "Tiny")
