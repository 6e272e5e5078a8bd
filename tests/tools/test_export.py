"""`export`: a file that gives `predict`'s probabilities without alexnet_lit."""

import json
import textwrap
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.errors import UserError, replacing
from tests.conftest import Train, python
from tests.pictures import ready


@pytest.mark.slow
def test_a_file_gives_the_probabilities_of_predict(lenet: Path, verb: Train, tmp_path: Path) -> None:
    outcome = verb("export", str(lenet), "--out=net.onnx")
    assert (outcome.status, outcome.out.startswith("wrote  net.onnx  ")) == (0, True), outcome.err
    assert "\ntakes  images: uint8 (B, 28, 28), grey" in outcome.out
    module, images = alexnet_lit.load(lenet), load_sample()["test"][0][:40]
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
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Gemm"), len(kinds) < 80) == (2, 3, True), "each layer once"
    held = sum(each.ByteSize() for each in model.graph.initializer)
    assert held < sum(each.nbytes for each in module.net.parameters()) + 20_000, "each weight once"

    black = module.predict(torch.zeros(1, 28, 28, dtype=torch.uint8))
    example = textwrap.dedent(outcome.out.partition("without alexnet_lit:\n\n")[2])
    example += "import sys\nassert not [name for name in sys.modules if name.startswith('alexnet_lit')]\n"
    done = python("-I", "-c", example, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{CLASSES[black.argmax()]}\n", "")


@pytest.mark.slow
def test_a_net_of_colour_pictures(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    outcome = verb("export", str(folder), "--out=net.onnx").ok()
    assert "takes  images: uint8 (B, 3, 32, 32), RGB, light and dark as in the training images\n" in outcome.out
    images = ready(pictures).read()["test"][0].index_select(0, torch.arange(15))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": images.numpy()})
    expected = alexnet_lit.load(folder).predict(images)
    torch.testing.assert_close(torch.from_numpy(probabilities), expected, rtol=0, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["bag", "boot", "shirt"]


@pytest.mark.slow
def test_a_wrong_file_is_not_kept(lenet: Path, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_text("mine")
    monkeypatch.setattr("alexnet_lit.tools.export._TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="the exported net differs from torch's by"):
        verb("export", str(lenet), "--out=net.onnx", "--force")
    hint = "name another file with --out"
    line = rf"net\.onnx: cannot be written \(full\): {hint}"
    with pytest.raises(UserError, match=line), replacing(tmp_path / "net.onnx", hint) as part:  # noqa: PT012 - the block is tested
        part.write_text("half")
        raise OSError(28, "full")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("net.onnx", "mine")]
