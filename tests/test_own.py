"""docs/your-own.md: a net, data set, callback and optimizer of one's own, outside the package, with every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

import alexnet_lit
from alexnet_lit.config import checkpoint_file
from alexnet_lit.data import Batch
from alexnet_lit.tools.demo import explain
from alexnet_lit.tools.predict import Predictor
from tests.browser import served
from tests.conftest import REPOSITORY, Outcome, Train
from tests.pictures import picture

OWN = REPOSITORY / "tests" / "own"
SHORT = (
    *("data.image_size=28", "data.batch_size=8", "trainer.max_epochs=1"),
    *(f"trainer.limit_{stage}_batches=3" for stage in ("train", "val", "test")),
)
BARE = """
import torch
from torch import nn

class Pair(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(28 * 28, classes))
    def forward(self, images):
        return images.flatten(1) @ self.weight, images

class Bare(nn.Module):
    def __init__(self, *, num_classes):
        super().__init__()
        self.pair = Pair(num_classes)
    def forward(self, images):
        return self.pair(images)[0]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tests/own, with random images for its data set, and a picture. Its modules are imported anew."""
    for name in ("mynet", "myoptimizer", "mydata", "myloss", "mycallback"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / "it's own"
    shutil.copytree(OWN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    random = np.random.default_rng(0)
    arrays = {
        f"{split}_{what}": random.integers(most, size=shape, dtype=np.uint8)
        for split, count in (("train", 60_000), ("test", 10_000))
        for what, most, shape in (("images", 256, (count, 28, 28)), ("labels", 10, count))
    }
    np.savez(folder / "digits.npz", **arrays)  # type: ignore[arg-type] # arrays by name
    picture("bag", 0).save(folder / "bag.png")
    return folder


def test_the_page_shows_these_files() -> None:
    page = (REPOSITORY / "docs" / "your-own.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"(?ms)^```(?:python|yaml)\n# (\S+)\n(.*?)^```", page))
    files = [path for path in OWN.rglob("*.*") if path.suffix in (".py", ".yaml")]
    assert shown == {path.relative_to(OWN).as_posix(): path.read_text(encoding="utf-8") for path in files}
    assert max(len(text.splitlines()) for text in shown.values()) <= 40


@pytest.mark.slow
def test_every_command_takes_them(own: Path, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one stands in their folder. `.ci/run` names the `alexnet-lit` of an installed wheel in ALEXNET_LIT."""
    installed = os.environ.get("ALEXNET_LIT")
    if installed:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(own)

    def call(*arguments: str) -> str:
        if installed is None:
            outcome = verb(*arguments)
        else:
            done = subprocess.run([installed, *arguments], capture_output=True, encoding="utf-8", check=False)
            outcome = Outcome(done.returncode, done.stdout, done.stderr, own)
        assert outcome.status == 0, outcome.err
        return outcome.out

    chosen = ("--config-dir", "conf", "model=tiny", "optimizer=sign", "callbacks=weight_norm", "data=digits")
    typed = (*chosen, *SHORT, "experiment=shirts", "callbacks.weight_norm.every=1", "paths.logs=logs")
    assert "54,000 training, 6,000 validation, 10,000 test images" in call("train", *typed)
    (run,) = (own / "logs" / "runs").iterdir()
    call("train", f"ckpt={run}", "trainer.max_epochs=2")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["epochs"], result["images"]) == ("completed", 2, 48)
    events = EventAccumulator(str(run), {IMAGES: 0}).Reload()
    assert {"net/kernels", "net/activations"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Scalars("weight_norm")] == [1, 2, 3, 4, 5, 6]
    call("train", "-m", *typed, "~callbacks.board", "optimizer.lr=1e-3,1e-2")
    (sweep,) = (own / "logs" / "sweeps").iterdir()
    shutil.rmtree(next(sweep.glob("1_*")))
    call("train", f"resume_sweep={sweep}")
    assert (sweep / "summary.csv").read_text(encoding="utf-8").count("completed") == 2
    call("report", str(sweep))
    assert "optimizer.lr" in (sweep / "report.html").read_text(encoding="utf-8")
    (found,) = json.loads(call("predict", str(run), "bag.png", "--json"))
    assert {each["class"] for each in found["classes"]} <= set("0123456789")
    call("export", str(run))
    assert (run / "checkpoints" / "best.onnx").is_file()
    if installed:
        with served(installed, "demo", str(run), scratch=own) as (_, address), urlopen(address, timeout=60) as page:
            assert "Tiny of `" in page.read().decode()


def test_keys_of_ones_own_are_checked(own: Path, train: Train, verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(own)
    monkeypatch.chdir(own)
    conf = ("--config-dir", "conf")
    typed = (*conf, "optimizer=sign", "optimizer.lr=fast", "data=sample")
    assert train(*typed).refusal == "optimizer.lr=fast: should be a valid number"
    digits = (*conf, "data=digits", "model=lenet", "data.image_size=28")
    assert train(*digits, "data.dir=/no").refusal == "data.dir: there is no /no/digits.npz: name its folder"
    floats = dict.fromkeys(("train_images", "train_labels", "test_images", "test_labels"), np.zeros(1))
    np.savez(own / "digits.npz", **floats)  # type: ignore[arg-type] # as above
    assert "Digits.read() should return torch.uint8 images" in train(*digits).err
    watched = ("callbacks=[early_stopping,weight_norm]", "callbacks.early_stopping.monitor=weight_norm")
    train(*conf, *watched, "data=sample", "model=lenet", "trainer.fast_dev_run=true").ok()
    assert "head     Linear" in verb("summary", *conf, "model=tiny", "data=sample", "data.image_size=28").out
    config = alexnet_lit.compose("hydra.searchpath=[file://conf]", "experiment=shirts", "data=sample", "model=lenet")
    module, _ = alexnet_lit.build(config)
    logits, batch = torch.randn(2, 10), Batch(torch.empty(0), torch.tensor([6, 6]), torch.empty(0), 2)  # shirts
    torch.testing.assert_close(module.loss_sum("train", batch, logits), 3 * module.loss_sum("val", batch, logits))


def test_a_net_of_other_layers(own: Path, train: Train, verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(own)
    (own / "my_bare_net.py").write_text(BARE)
    (own / "conf" / "model" / "bare.yaml").write_text("_target_: my_bare_net.Bare\nnum_classes: 10\n")
    trained = train("--config-dir", str(own / "conf"), "model=bare", "data=sample", *SHORT).ok()
    events = EventAccumulator(str(trained.folder), {IMAGES: 0}).Reload()
    assert "net/kernels" not in events.Tags()["images"]
    (found,) = json.loads(verb("predict", str(trained.folder), str(own / "bag.png"), "--json").out)
    assert len(found["classes"]) == 3
    assert json.loads(verb("evaluate", str(trained.folder), "--json").out)["images"] == 500
    seen = explain(Predictor(checkpoint_file(trained.folder), device="cpu"), str(own / "bag.png"))
    assert (seen.seen.size, len(seen.probabilities), seen.maps) == ((28, 28), 10, None)
