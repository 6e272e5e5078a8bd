"""`export`: a file that gives `predict`'s probabilities without alexnet_lit."""

import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from tests.conftest import Train
from tests.pictures import ready


def check_example(printed: str, expected: str, folder: Path) -> None:
    """Run the lines that are printed in a process without this package."""
    example = textwrap.dedent(printed.partition("without alexnet_lit:\n\n")[2])
    example += "import sys\nassert not [name for name in sys.modules if name.startswith('alexnet_lit')]\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", example], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")


@pytest.mark.slow
def test_onnx_gives_the_probabilities_of_predict(lenet: Path, verb: Train, tmp_path: Path) -> None:
    outcome = verb("export", str(lenet), "--size=56", "--out=net.onnx")

    assert (outcome.status, outcome.out.startswith("wrote  net.onnx  ")) == (0, True), outcome.err
    assert "\ntakes  images: uint8 (B, 56, 56), grey" in outcome.out
    module = alexnet_lit.load(lenet)
    images = load_sample().test.images[:40].repeat_interleave(2, 1).repeat_interleave(2, 2)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):
        (probabilities,) = session.run(["probabilities"], {"images": batch.numpy()})
        torch.testing.assert_close(torch.from_numpy(probabilities), module.predict(batch), rtol=0, atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["config"]) == module.hparams["config"]
    assert metadata["alexnet_lit"] == alexnet_lit.__version__
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}, "standard operators alone"
    black = module.predict(torch.zeros(1, 56, 56, dtype=torch.uint8))
    check_example(outcome.out, CLASSES[black.argmax()], tmp_path)


@pytest.mark.slow
def test_torch_s_format_of_a_net_of_colour_pictures(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    outcome = verb("export", str(folder), "--format=torch", "--out=net.pt2")

    assert outcome.status == 0, outcome.err
    assert "takes  images: uint8 (B, 3, 32, 32), RGB, light and dark as in the training images\n" in outcome.out
    metadata = {"classes": ""}
    net = torch.export.load(tmp_path / "net.pt2", extra_files=metadata).module()
    names = json.loads(metadata["classes"])
    assert names == ["bag", "boot", "shirt"]
    module, images = alexnet_lit.load(folder), ready(pictures).read()["test"][0][torch.arange(15)]
    for batch in (images, images[:1]):
        torch.testing.assert_close(net(batch), module.predict(batch), rtol=0, atol=1e-5)
    black = module.predict(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    check_example(outcome.out, names[int(black.argmax())], tmp_path)


def test_a_file_that_differs_from_torch_is_not_kept(
    lenet: Path, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pt2").write_text("mine")
    nothing = torch.zeros(10)
    monkeypatch.setattr("alexnet_lit.tools.export.write_torch", lambda exportable, path: lambda images: nothing)
    with pytest.raises(RuntimeError, match="the exported net differs from torch's by"):
        verb("export", str(lenet), "--format=torch", "--out=net.pt2", "--force")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("net.pt2", "mine")]


def test_without_onnx_the_extra_is_named(verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.tools.export.find_spec", lambda name: None if "onnx" in name else find_spec(name))
    outcome = verb("export", "run")
    line = "error: --format=onnx: needs onnx, onnxscript, onnxruntime"
    way_out = 'pip install "alexnet-lit[export]", or --format torch'
    assert (outcome.status, outcome.err) == (2, f"{line}: {way_out}\n")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--format=tf"], "--format=tf: should be onnx or torch"),
        (["--format=torch", "--out=net.onnx"], "--out=net.onnx: with --format=torch the name should end in .pt2"),
        (["--out=no/net.onnx"], "no/net.onnx: there is no folder no: make it, or name another file with --out"),
        (["--out=mine.onnx"], "mine.onnx: is there already: --force replaces it, --out names another file"),
    ],
)
def test_a_mistake_costs_one_line(typed: list[str], line: str, lenet: Path, verb: Train, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_text("mine")
    outcome = verb("export", str(lenet), *typed)
    assert (outcome.status, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert outcome.err.startswith(f"error: {line}")
    assert (tmp_path / "mine.onnx").read_text() == "mine"
