"""`python -m alexnet_lit export`: a net as one file of ONNX or of torch, which is used without this package."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet_lit import __version__
from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError, check_choice, check_free, whole

if TYPE_CHECKING:
    from torch import Tensor, nn

_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")  # the extra `export`
_CHECKED = 8  # images that a file is tried with
_TOLERANCE = 1e-4  # of a probability
_EXAMPLES = {
    "onnx": """\
    import json, numpy, onnxruntime

    session = onnxruntime.InferenceSession({path!r})
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    images = numpy.zeros((1, {shape}), numpy.uint8)  # put yours here
    (probabilities,) = session.run(None, {{"images": images}})
    print(classes[probabilities[0].argmax()])
""",
    "torch": """\
    import json, torch

    metadata = {{"classes": ""}}
    net = torch.export.load({path!r}, extra_files=metadata).module()
    classes = json.loads(metadata["classes"])
    images = torch.zeros(1, {shape}, dtype=torch.uint8)  # put yours here
    print(classes[net(images)[0].argmax()])
""",
}


class Exportable(NamedTuple):
    """What a file is made of. metadata: goes into the file.

    net: uint8 images (B, H, W) or (B, 3, H, W) to probabilities (B, classes) float32. images: 8 real ones. expected:
    their probabilities by `Classifier.predict`.
    """

    net: "nn.Module"
    images: "Tensor"
    expected: "Tensor"
    metadata: dict[str, str]


def export(ckpt: str, *, kind: str, size: int | None, out: Path | None, force: bool) -> None:
    """Write the net of `ckpt`, with preprocessing before it and softmax behind it, and compare the file with torch.

    kind: "onnx" or "torch". size: px of the pictures that the file takes; None is as the data has them. Without `out`
    the file is beside the checkpoint. Raises: UserError; for names and options before torch is imported.
    """
    check_choice("--format", kind, tuple(_SUFFIXES))
    missing = [name for name in _FOR_ONNX if find_spec(name) is None] if kind == "onnx" else []
    if missing:
        way_out = 'pip install "alexnet-lit[export]", or --format torch'
        raise UserError(f"--format=onnx: needs {', '.join(missing)}: {way_out}")
    suffix = _SUFFIXES[kind]
    if out is not None and out.suffix != suffix:
        raise UserError(f"--out={out}: with --format={kind} the name should end in {suffix}, or readers refuse it")
    file = checkpoint_file(ckpt)
    out = out or file.with_suffix(suffix)
    check_free(out, force=force)
    exportable = load_exportable(file, size=size)
    write = write_onnx if kind == "onnx" else write_torch
    with whole(out) as part:
        difference = check(exportable, write(exportable, part))
    shape = ", ".join(map(str, exportable.images.shape[1:]))
    colours = "grey" if exportable.images.ndim == 3 else "RGB"
    print(f"wrote  {out}  {out.stat().st_size / 1e6:,.1f} MB")
    print(f"takes  images: uint8 (B, {shape}), {colours}, light and dark as in the training images")
    print(f"gives  probabilities: float32 (B, {exportable.expected.shape[1]})")
    print(f"check  differs from torch by {difference:.1e} at most, on {_CHECKED} real images")
    print(f"run it, without alexnet_lit:\n\n{_EXAMPLES[kind].format(path=str(out), shape=shape)}")


def load_exportable(ckpt: Path, *, size: int | None) -> Exportable:
    """The net of a checkpoint file, for pictures of `size` px; None is as the data has them."""
    import torch
    from torch import nn

    from alexnet_lit.checkpoint import read_checkpoint
    from alexnet_lit.data.fashion_mnist import load_sample
    from alexnet_lit.prepare import restore

    checkpoint = read_checkpoint(ckpt)
    module, data = restore(checkpoint, {}, compiled=False)
    size = size or data.source_size
    images = load_sample().test.images[:_CHECKED]
    images = nn.functional.interpolate(images[:, None].float(), size=size, mode="bilinear").round().to(torch.uint8)
    images = images[:, 0] if data.channels == 1 else images.repeat(1, data.channels, 1, 1)
    metadata = {
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "config": json.dumps(checkpoint["hyper_parameters"]["config"]),
        "alexnet_lit": __version__,
        "torch": torch.__version__,
    }
    net = nn.Sequential(module.pixels, module.net, nn.Softmax(dim=1)).eval()
    # Called before it is exported: `pixels` makes a matrix for a size when it first sees it.
    return Exportable(net, images, module.predict(images), metadata)


def check(exportable: Exportable, read: "Callable[[Tensor], Tensor]") -> float:
    """The largest difference between a file's probabilities and torch's, for several images and for one.

    Raises: RuntimeError if it is more than rounding.
    """
    parts = (slice(0, _CHECKED), slice(0, 1))
    difference = max((read(exportable.images[part]) - exportable.expected[part]).abs().max().item() for part in parts)
    if not difference <= _TOLERANCE:  # nor NaN
        raise RuntimeError(f"the exported net differs from torch's by {difference:.1e} in a probability")
    return difference


def write_onnx(exportable: Exportable, path: Path) -> "Callable[[Tensor], Tensor]":
    """Write one ONNX file, weights included; returns what onnxruntime makes of it on the CPU."""
    import onnx
    import onnxruntime
    import torch

    options: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"], "verbose": False}
    shapes = ({0: "batch"},)
    program = torch.onnx.export(exportable.net, (exportable.images,), dynamo=True, dynamic_shapes=shapes, **options)
    assert program is not None
    model = program.model_proto  # made anew each time that it is asked for
    onnx.helper.set_model_props(model, exportable.metadata)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write_torch(exportable: Exportable, path: Path) -> "Callable[[Tensor], Tensor]":
    """Write an exported program of torch (.pt2), weights included; returns what torch makes of it."""
    import warnings

    import torch

    with torch.no_grad(), path.open("wb") as file, warnings.catch_warnings():
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(exportable.net, (exportable.images,), dynamic_shapes=shapes)
        # torch takes weights in channels_last for slices of something; they are whole.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, file, extra_files=dict(exportable.metadata))
    with path.open("rb") as file:
        net = torch.export.load(file).module()
    return torch.inference_mode()(net)
