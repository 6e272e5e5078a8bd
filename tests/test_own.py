"""docs/your-own.md: a net, data set, callback and optimizer of one's own, outside the package, with every command."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from alexnet_lit.tools.demo import explain
from alexnet_lit.tools.predict import Predictor
from tests.conftest import REPOSITORY, Train
from tests.pictures import picture

OWN = REPOSITORY / "tests" / "own"
SHORT = (
    *("data.image_size=28", "data.batch_size=8", "trainer.max_epochs=1"),
    *(f"trainer.limit_{stage}_batches=3" for stage in ("train", "val", "test")),
)
BARE = '''
import torch
from torch import nn

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


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of tests/own can be imported, as where one stands in their folder."""
    monkeypatch.syspath_prepend(OWN)
    for name in ("mynet", "myoptimizer", "mydata", "mycallback"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_page_shows_these_files() -> None:
    page = (REPOSITORY / "docs" / "your-own.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"(?ms)^```(?:python|yaml)\n# (\S+)\n(.*?)^```", page))
    files = [path for path in OWN.rglob("*.*") if path.suffix in (".py", ".yaml")]
    assert shown == {path.relative_to(OWN).as_posix(): path.read_text(encoding="utf-8") for path in files}
    assert max(len(text.splitlines()) for text in shown.values()) <= 40


def test_a_net_an_optimizer_and_a_callback_of_ones_own(train: Train, verb: Train, tmp_path: Path) -> None:
    own = ("--config-dir", str(OWN / "conf"), "model=tiny", "optimizer=sign", "callbacks=weight_norm", "data=sample")
    trained = train(*own, *SHORT, "callbacks.weight_norm.every=1")

    assert (trained.status, trained.err) == (0, "")
    events = EventAccumulator(str(trained.folder), {IMAGES: 0}).Reload()
    assert {"net/kernels", "net/activations"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Scalars("weight_norm")] == [1, 2, 3]
    _every_command_takes(trained.folder, verb, tmp_path)
    summary = verb("summary", *own[:3], "data=sample", "data.image_size=28")
    assert "head     Linear" in summary.out, summary.err
    assert verb("report", str(trained.logs), "--out=report").status == 0
    longer = train(f"ckpt={trained.folder}", "trainer.max_epochs=2")
    assert (longer.status, longer.result["epochs"]) == (0, 2), longer.err
    wrong = train(*own, "optimizer.lr=fast")
    assert (wrong.status, wrong.err) == (2, "error: optimizer.lr=fast: should be a valid number\n")


def test_a_net_without_convolutions_and_linear_layers(train: Train, verb: Train, tmp_path: Path) -> None:
    (tmp_path / "my_bare_net.py").write_text(BARE)
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text("_target_: my_bare_net.Bare\nnum_classes: 10\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        trained = train("--config-dir", str(tmp_path / "conf"), "model=own", "data=sample", *SHORT)
        assert (trained.status, trained.err) == (0, "")
        events = EventAccumulator(str(trained.folder), {IMAGES: 0}).Reload()
        assert "net/kernels" not in events.Tags()["images"]
        _every_command_takes(trained.folder, verb, tmp_path, convolves=False)


def _every_command_takes(run: Path, verb: Train, folder: Path, *, convolves: bool = True) -> None:
    source = folder / "bag.png"
    picture("bag", 0).save(source)
    (found,) = json.loads(verb("predict", str(run), str(source), "--json").out)
    assert len(found["classes"]) == 3
    assert json.loads(verb("evaluate", str(run), "--json").out)["images"] == 500
    if convolves:
        exported = verb("export", str(run))
        assert exported.status == 0, exported.err
    predictor = Predictor(run / "checkpoints" / "best.ckpt", device="cpu")
    seen = explain(predictor, str(source))
    assert (seen.seen.size, len(seen.probabilities)) == ((28, 28), 10)
    assert (seen.maps is not None) == convolves


def test_a_data_set_of_ones_own(train: Train, verb: Train, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        f"{split}_{what}": random.integers(most, size=shape, dtype=np.uint8)
        for split, count in (("train", 60), ("test", 20))
        for what, most, shape in (("images", 256, (count, 28, 28)), ("labels", 10, count))
    }
    np.savez(tmp_path / "digits.npz", **arrays)  # type: ignore[arg-type] # arrays by name
    typed = ("--config-dir", str(OWN / "conf"), "data=digits", f"data.file={tmp_path}/digits.npz", "model=lenet")
    trained = train(*typed, *SHORT)
    assert (trained.status, trained.err) == (0, "")
    assert "54 training, 6 validation, 20 test images" in trained.out
    longer = train(f"ckpt={trained.folder}", "trainer.max_epochs=2")
    assert (longer.status, longer.result["images"]) == (0, 48), longer.err
    assert json.loads(verb("evaluate", str(trained.folder), "--json").out)["images"] == 20
    missing = train(*typed[:3], "data.file=/nowhere.npz", "model=lenet")
    assert (missing.status, len(missing.err.splitlines())) == (2, 1), missing.err
