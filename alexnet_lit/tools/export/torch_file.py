"""A net as an exported program of torch (.pt2): a graph of torch's operations, which needs torch alone."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from alexnet_lit.tools.export.exported import BATCH, Exported, Reader

EXAMPLE = """\
    import json, torch

    metadata = {{"classes": ""}}
    net = torch.export.load({path!r}, extra_files=metadata).module()
    classes = json.loads(metadata["classes"])
    images = torch.zeros(1, {shape}, dtype=torch.uint8)  # put yours here
    print(classes[net(images)[0].argmax()])
"""


def write(exported: Exported, path: Path) -> None:
    """Write one file, weights included."""
    shapes = ({0: torch.export.Dim(BATCH)},)
    with torch.no_grad():
        program = torch.export.export(exported.module, (exported.images,), dynamic_shapes=shapes)
    with path.open("wb") as file, warnings.catch_warnings():
        # torch takes weights in channels_last for slices of something; they are whole.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, file, extra_files=dict(exported.metadata))


def reader(path: Path) -> Reader:
    """What torch makes of the file."""
    with path.open("rb") as file:
        net = torch.export.load(file).module()

    def read(images: Tensor) -> Tensor:
        with torch.inference_mode():
            probabilities: Tensor = net(images)
        return probabilities

    return read
