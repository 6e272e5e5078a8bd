"""`python -m alexnet_lit export`: a net as one file of ONNX, which is used without this package."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexnet_lit import __version__
from alexnet_lit.checkpoint import read_checkpoint
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.errors import UserError, check_free, replacing
from alexnet_lit.prepare import restore

_NEEDED = ("onnx", "onnxscript", "onnxruntime")  # the extra `export`
_CHECKED = 8  # images that a file is tried with
_TOLERANCE = 1e-4  # maximum difference of a probability from torch's
_EXAMPLE = """\
    import json, numpy, onnxruntime

    session = onnxruntime.InferenceSession({path!r})
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    images = numpy.zeros((1, {shape}), numpy.uint8)  # put yours here
    (probabilities,) = session.run(None, {{"images": images}})
    print(classes[probabilities[0].argmax()])
"""


def export(ckpt: Path, *, out: Path | None, force: bool) -> None:
    """Write the net of `ckpt`, with preprocessing before it and softmax behind it, and compare the file with torch.

    It takes uint8 images (B, H, W) or (B, 3, H, W) as the data has them, and gives probabilities (B, classes) float32.
    Without `out` the file is beside the checkpoint. Raises: UserError.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f'export: needs {", ".join(missing)}: pip install "alexnet-lit[export]"')
    out = out or ckpt.with_suffix(".onnx")
    check_free(out, force=force)
    checkpoint = read_checkpoint(ckpt)
    module, data = restore(checkpoint, {})
    images = load_sample()["test"][0][:_CHECKED, None].float()
    images = nn.functional.interpolate(images, size=data.source_size, mode="bilinear").round().to(torch.uint8)
    images = images[:, 0] if data.channels == 1 else images.repeat(1, data.channels, 1, 1)
    expected = module.predict(images)  # before the net is exported: `pixels` makes a matrix when it first sees a size
    metadata = {
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "config": json.dumps(checkpoint["hyper_parameters"]["config"]),
        "alexnet_lit": __version__,
        "torch": torch.__version__,
    }
    with replacing(out, "name another file with --out") as part:
        write_onnx(nn.Sequential(module.pixels, module.net, nn.Softmax(dim=1)).eval(), images, metadata, part)
        difference = check(part, images, expected)
    shape, colours = ", ".join(map(str, images.shape[1:])), "grey" if images.ndim == 3 else "RGB"
    print(f"wrote  {out}  {out.stat().st_size / 1e6:,.1f} MB")
    print(f"takes  images: uint8 (B, {shape}), {colours}, light and dark as in the training images")
    print(f"gives  probabilities: float32 (B, {expected.shape[1]})")
    print(f"check  differs from torch by {difference:.1e} at most, on {_CHECKED} real images")
    print(f"run it, without alexnet_lit:\n\n{_EXAMPLE.format(path=str(out), shape=shape)}")


def write_onnx(net: nn.Module, images: Tensor, metadata: Mapping[str, str], path: Path) -> None:
    """Write one ONNX file, weights included, for any number of images at a time."""
    import onnx

    options: dict[str, Any] = {"input_names": ["images"], "output_names": ["probabilities"], "verbose": False}
    program = torch.onnx.export(net, (images,), dynamo=True, dynamic_shapes=({0: "batch"},), **options)
    assert program is not None
    model = program.model_proto  # made anew each time that it is asked for
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def check(path: Path, images: Tensor, expected: Tensor) -> float:
    """The largest difference between the probabilities of onnxruntime and torch, for several images and for one.

    Raises: RuntimeError if it is more than rounding.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = [session.run(None, {"images": part.numpy()})[0] for part in (images, images[:1])]
    difference = float((torch.from_numpy(np.concatenate(found)) - torch.cat([expected, expected[:1]])).abs().max())
    if not difference <= _TOLERANCE:  # nor NaN
        raise RuntimeError(f"the exported net differs from torch's by {difference:.1e} in a probability")
    return difference
