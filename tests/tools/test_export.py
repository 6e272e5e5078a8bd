"""`export`: a file that gives `predict`'s probabilities without alexnet_lit."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from tests.conftest import Train
from tests.pictures import ready

Net = Callable[[Tensor], Tensor]


def from_onnx(file: Path) -> tuple[Net, dict[str, str]]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0]), metadata


def from_torch(file: Path) -> tuple[Net, dict[str, str]]:
    metadata = dict.fromkeys(("classes", "config", "alexnet_lit", "torch"), "")
    return torch.export.load(file, extra_files=metadata).module(), metadata


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "read", "size"), [("onnx", "net.onnx", from_onnx, 28), ("torch", "net.pt2", from_torch, 56)]
)
def test_probabilities_are_those_of_predict(
    kind: str,
    name: str,
    read: Callable[[Path], tuple[Net, dict[str, str]]],
    size: int,
    lenet: Path,
    verb: Train,
    tmp_path: Path,
) -> None:
    outcome = verb("export", str(lenet), f"--format={kind}", f"--size={size}", f"--out={name}")

    assert (outcome.status, outcome.out.startswith(f"wrote  {name}  ")) == (0, True), outcome.err
    assert f"\ntakes  images: uint8 (B, {size}, {size}), grey" in outcome.out
    module, times = alexnet_lit.load(lenet), size // 28
    images = load_sample().test.images[:40].repeat_interleave(times, 1).repeat_interleave(times, 2)
    net, metadata = read(tmp_path / name)
    for batch in (images, images[:1]):
        probabilities = net(batch)
        assert probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities, module.predict(batch), rtol=0, atol=1e-5)
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["config"]) == module.hparams["config"]
    assert metadata["alexnet_lit"] == alexnet_lit.__version__
    if kind == "onnx":
        model = onnx.load(tmp_path / name)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} == {""}, "standard operators alone"
        sides = [one.type.tensor_type.shape.dim for one in (*model.graph.input, *model.graph.output)]
        shapes = [[side.dim_param or side.dim_value for side in each] for each in sides]
        assert shapes == [["batch", 28, 28], ["batch", 10]]
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8

    example = textwrap.dedent(outcome.out.partition("without alexnet_lit:\n\n")[2])
    example += "import sys\nassert not [name for name in sys.modules if name.startswith('alexnet_lit')]\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    black = module.predict(torch.zeros(1, size, size, dtype=torch.uint8))
    assert done.stdout == f"{CLASSES[black.argmax()]}\n"


def test_a_net_of_colour_pictures(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    outcome = verb("export", str(folder), "--format=torch", "--out=net.pt2")

    assert outcome.status == 0, outcome.err
    assert "takes  images: uint8 (B, 3, 32, 32), RGB, light and dark as in the training images\n" in outcome.out
    net, metadata = from_torch(tmp_path / "net.pt2")
    assert json.loads(metadata["classes"]) == ["bag", "boot", "shirt"]
    images = ready(pictures).read()["test"][0][torch.arange(15)]
    torch.testing.assert_close(net(images), alexnet_lit.load(folder).predict(images), rtol=0, atol=1e-5)


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
