"""AlexNet (2012) as a laboratory: PyTorch Lightning + Hydra, on Fashion-MNIST at 224 px.

    config = alexnet_lit.compose("model.lrn=true", "data=sample")
    module, data = alexnet_lit.build(config)
    net = alexnet_lit.build_net(config)
    result = alexnet_lit.fit(config)
    module = alexnet_lit.load("logs/runs/.../checkpoints/best.ckpt")

Importing the package imports no torch; the first use of a name does.
"""

import os
import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_lit.config import compose
    from alexnet_lit.factory import build, build_net
    from alexnet_lit.prepare import load
    from alexnet_lit.run import fit

__version__ = "0.2.0"
__all__ = ["build", "build_net", "compose", "fit", "load"]

# Read as torch is imported: its threads on a CPU soon leave the core to others while they wait, at no cost alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_MODULES = {"compose": "config", "build": "factory", "build_net": "factory", "load": "prepare", "fit": "run"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    state = random.getstate()
    module = import_module(f"{__name__}.{_MODULES[name]}")
    random.setstate(state)  # rich draws from it when it is imported
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
