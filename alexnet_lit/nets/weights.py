"""Pretrained weights, in place of random initial ones."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

# torchvision's AlexNet_Weights.IMAGENET1K_V1; the file's name ends with the beginning of its SHA-256.
IMAGENET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
_FITS = "use a .ckpt file of a run, or a state dict of torchvision's alexnet"


def load_weights(net: nn.Module, weights: str) -> None:
    """Load trained weights into `net` in place.

    weights: "imagenet" for torchvision's (244 MB, downloaded once into torch.hub's folder), a file with a state dict
    of torchvision's alexnet, or a run's .ckpt file. Raises: ValueError if they can't be read or don't fit.
    """
    try:
        copy_weights(net, _read(weights))
    except ValueError as error:
        raise ValueError(f"weights={weights}: {error}") from error


def copy_weights(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict of torchvision's alexnet or of a run into `net`, in place.

    Parameters are matched by order and shape. The last layer keeps its own weights if the state dict has another number
    of classes. A net of one channel gets the sum of the weights of three, as a grey picture has three equal colours.
    Raises: ValueError that names what does not fit; `net` is then unchanged.
    """
    names, mine = zip(*net.named_parameters(), strict=True)
    if len(state) != len(mine):
        raise ValueError(f"{len(state)} tensors for the net's {len(mine)} parameters: {_FITS}")
    theirs = list(state.values())
    shapes = [tuple(parameter.shape) for parameter in mine]
    classes = tuple(theirs[-1].shape[:1])
    shapes[-2:] = [(*classes, *shapes[-2][1:]), classes]
    if shapes[0][1] == 1 and theirs[0].shape[1:2] == (3,):
        shapes[0] = (shapes[0][0], 3, *shapes[0][2:])
    for name, shape, (other, tensor) in zip(names, shapes, state.items(), strict=True):
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{other} {tuple(tensor.shape)} does not fit the net's {name} {shape}: {_FITS}")
    copied = len(mine) if classes == mine[-1].shape else len(mine) - 2
    with torch.no_grad():
        for parameter, tensor in zip(mine[:copied], theirs[:copied], strict=True):
            parameter.copy_(tensor if tensor.shape == parameter.shape else tensor.sum(1, keepdim=True))


def _read(weights: str) -> dict[str, Tensor]:
    try:
        if weights == "imagenet":
            state = torch.hub.load_state_dict_from_url(IMAGENET, map_location="cpu", check_hash=True, weights_only=True)
        else:
            file = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
            state = {k: v for k, v in file["state_dict"].items() if k[:4] == "net."} if "state_dict" in file else file
    except Exception as error:  # torch has no error class of its own: network, OS, pickle, zip, runtime errors come out
        hint = f"download {IMAGENET} elsewhere and say model.weights=<file>" if weights == "imagenet" else _FITS
        raise ValueError(f"can't be read ({' '.join(str(error).split())[:200]}): {hint}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"holds no state dict: {_FITS}")
    return state
