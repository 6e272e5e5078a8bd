"""The net of a checkpoint, from that file alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from alexnet_lit.ckpt import checkpoint_file
from alexnet_lit.data import ImageData, changed_classes
from alexnet_lit.config import checkpoint_file
from alexnet_lit.data import ImageData
from alexnet_lit.data.folder import changed_classes
from alexnet_lit.errors import UserError
from alexnet_lit.factory import assemble, read_checkpoint
from alexnet_lit.lit import Classifier


def load(path: str | Path, map_location: Any = None) -> Classifier:
    """The module of a checkpoint, from that file alone: weights and config are in it. In eval mode.

    path: a .ckpt file, or a run folder (then best.ckpt, else last.ckpt). map_location: the device that it is put on, in
    any form that torch.load takes; None for the CPU. Raises: UserError if it is none of ours.
    """
    checkpoint = read_checkpoint(checkpoint_file(path), "cpu" if map_location is None else map_location)
    module, _ = restore(checkpoint, {}, compiled=True)
    return module.to(next(iter(checkpoint["state_dict"].values())).device)


def restore(
    checkpoint: Mapping[str, Any], changes: Mapping[str, Any], *, compiled: bool
) -> tuple[Classifier, ImageData]:
    """The module of a checkpoint that was read, and its data, of which nothing is read yet. In eval mode, on the CPU.

    changes: other values for keys of its config, as {"data.tta": "mirror"}. compiled: compile the net if the run did;
    for a few images that takes longer than it saves. Raises: UserError if the data has other classes than the net.
    """
    config = OmegaConf.create(checkpoint["hyper_parameters"]["config"])
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    if not compiled and "compile" in config.model:
        config.model.compile = False
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced below
        module, data = assemble(config, fresh=False)
    known = checkpoint["hyper_parameters"].get("classes", data.classes)  # of before they were kept there are none
    if changed := changed_classes(known, data.classes):
        raise UserError(
            f"data.dir={config.data.dir}: it has other classes than the net, {changed}: name a folder with the same"
        )
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval(), data
