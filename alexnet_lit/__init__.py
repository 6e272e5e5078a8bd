"""AlexNet (2012) as a laboratory: PyTorch Lightning + Hydra, on Fashion-MNIST at 224 px.

    config = alexnet_lit.compose("model.lrn=true", "data=sample")
    module, data = alexnet_lit.build(config)
    net = alexnet_lit.build_net(config)
    module = alexnet_lit.load("logs/runs/.../checkpoints/best.ckpt")

Importing the package imports no torch; the first use of a name does.
"""

from typing import TYPE_CHECKING

from alexnet_lit.lazy import lazily

if TYPE_CHECKING:
    from alexnet_lit.checkpoint import load
    from alexnet_lit.config import compose
    from alexnet_lit.factory import build, build_net

__version__ = "0.1.0"
__all__ = ["build", "build_net", "compose", "load"]

_HOMES = {"compose": "config", "build": "factory", "build_net": "factory", "load": "checkpoint"}

__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    """What TAB offers: names that nobody has asked for yet too."""
    return sorted({*globals(), *__all__})
