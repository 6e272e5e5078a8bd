"""`export`: a file that gives `predict`'s probabilities without alexnet_lit."""

import functools
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.tools.export import export
from tests.conftest import Train
from tests.pictures import ready

IMAGES = load_sample().test.images


Net = Callable[[Tensor], Tensor]


def from_onnx(file: Path) -> tuple[Net, dict[str, str]]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    return lambda images: torch.from_numpy(session.run(["probabilities"], {"images": images.numpy()})[0]), metadata


def from_torch(file: Path) -> tuple[Net, dict[str, str]]:
    metadata = dict.fromkeys(("classes", "config", "alexnet_lit", "torch"), "")
    return torch.export.load(file, extra_files=metadata).module(), metadata


@pytest.fixture(scope="module")
def exported(lenet: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int | None], tuple[Path, str]]:
    """Exports the run once in each way: the file, and what was printed."""

    @functools.cache
    def call(kind: str, size: int | None) -> tuple[Path, str]:
        out = tmp_path_factory.mktemp("net") / f"net.{'onnx' if kind == 'onnx' else 'pt2'}"
        with redirect_stdout(StringIO()) as printed, redirect_stderr(printed):
            export(str(lenet), kind=kind, size=size, out=out, force=False)
        return out, printed.getvalue()

    return call


Exported = Callable[[str, int | None], tuple[Path, str]]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "read"), [("onnx", from_onnx), ("torch", from_torch)])
@pytest.mark.parametrize("size", [None, 56])
def test_probabilities_are_those_of_predict(
    kind: str, read: Callable[[Path], tuple[Net, dict[str, str]]], size: int | None, lenet: Path, exported: Exported
) -> None:
    module, times = alexnet_lit.load(lenet), (size or 28) // 28
    images = IMAGES[:40].repeat_interleave(times, 1).repeat_interleave(times, 2)

    file, printed = exported(kind, size)

    assert printed.startswith(f"wrote  {file}  ")
    assert f"\ntakes  images: uint8 (B, {size or 28}, {size or 28}), grey" in printed
    net, metadata = read(file)
    for batch in (images, images[:1]):
        probabilities = net(batch)
        assert probabilities.dtype == torch.float32
        torch.testing.assert_close(probabilities, module.predict(batch), rtol=0, atol=1e-5)
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert json.loads(metadata["config"]) == module.hparams["config"]
    assert metadata["alexnet_lit"] == alexnet_lit.__version__


@pytest.mark.slow
def test_a_net_of_colour_pictures(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    outcome = verb("export", str(folder), "--format=torch", "--out=net.pt2")

    assert outcome.status == 0, outcome.err
    assert "takes  images: uint8 (B, 3, 32, 32), RGB, light and dark as in the training images\n" in outcome.out
    net, metadata = from_torch(tmp_path / "net.pt2")
    assert json.loads(metadata["classes"]) == ["bag", "boot", "shirt"]
    images = ready(pictures).read()["test"][0][torch.arange(15)]
    torch.testing.assert_close(net(images), alexnet_lit.load(folder).predict(images), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_onnx_has_standard_operators_and_a_free_batch(exported: Exported) -> None:
    model = onnx.load(exported("onnx", None)[0])
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    (taken,), (given,) = model.graph.input, model.graph.output
    shapes = [[side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim] for one in (taken, given)]
    assert (taken.name, given.name, shapes) == ("images", "probabilities", [["batch", 28, 28], ["batch", 10]])
    assert taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.parametrize("kind", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_the_example_that_is_printed_runs_without_this_package(
    kind: str, lenet: Path, exported: Exported, tmp_path: Path
) -> None:
    code = textwrap.dedent(exported(kind, None)[1].partition("without alexnet_lit:\n\n")[2])
    code += "import sys\nassert not [name for name in sys.modules if name.startswith('alexnet_lit')]\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    black = alexnet_lit.load(lenet).predict(torch.zeros(1, 28, 28, dtype=torch.uint8))
    assert done.stdout == f"{CLASSES[black.argmax()]}\n"


def test_a_file_that_is_there_is_kept(lenet: Path, verb: Train, tmp_path: Path) -> None:
    file = tmp_path / "net.pt2"
    file.write_text("mine")
    outcome = verb("export", str(lenet), "--format=torch", "--out=net.pt2")
    assert outcome.status == 2
    assert outcome.err == "error: net.pt2: is there already: --force replaces it, --out names another file\n"
    assert file.read_text() == "mine"


def test_a_file_that_differs_from_torch_is_not_kept(
    lenet: Path, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.pt2").write_text("mine")
    nothing = torch.zeros(10)
    monkeypatch.setattr("alexnet_lit.tools.export.write_torch", lambda exportable, path: lambda images: nothing)
    with pytest.raises(RuntimeError, match="the exported net differs from torch's by"):
        verb("export", str(lenet), "--format=torch", "--out=net.pt2", "--force")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("net.pt2", "mine")]


def test_without_onnx_the_extra_is_named(lenet: Path, verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.tools.export.find_spec", lambda name: None if "onnx" in name else find_spec(name))
    outcome = verb("export", str(lenet))
    line = "error: --format=onnx: needs onnx, onnxscript, onnxruntime"
    way_out = 'pip install "alexnet-lit[export]", or --format torch'
    assert (outcome.status, outcome.err) == (2, f"{line}: {way_out}\n")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--format=tf"], "--format=tf: should be onnx or torch"),
        (["--format=torch", "--out=net.onnx"], "--out=net.onnx: with --format=torch the name should end in .pt2"),
        (["--out=no/net.onnx"], "no/net.onnx: there is no folder no: make it, or name another file with --out"),
    ],
)
def test_a_mistake_costs_one_line(typed: list[str], line: str, lenet: Path, verb: Train) -> None:
    outcome = verb("export", str(lenet), *typed)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {line}")
    assert len(outcome.err.splitlines()) == 1
