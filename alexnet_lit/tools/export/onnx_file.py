"""A net as ONNX, for onnxruntime and all that reads it."""

from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
from torch import Tensor

from alexnet_lit.tools.export.exported import BATCH, INPUT, OUTPUT, Exported, Reader

EXAMPLE = """\
    import json, numpy, onnxruntime

    session = onnxruntime.InferenceSession({path!r})
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    images = numpy.zeros((1, {shape}), numpy.uint8)  # put yours here
    (probabilities,) = session.run(None, {{"images": images}})
    print(classes[probabilities[0].argmax()])
"""


def write(exported: Exported, path: Path) -> None:
    """Write one file, weights included."""
    program = torch.onnx.export(
        exported.module,
        (exported.images,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamo=True,
        dynamic_shapes=({0: BATCH},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, exported.metadata)
    onnx.save(model, path)


def reader(path: Path) -> Reader:
    """What onnxruntime makes of the file, on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def read(images: Tensor) -> Tensor:
        (probabilities,) = session.run(None, {INPUT: images.numpy()})
        return torch.from_numpy(numpy.asarray(probabilities))

    return read
