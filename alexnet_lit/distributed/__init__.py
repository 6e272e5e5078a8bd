"""How a run spreads over devices and machines. Where a process stands is told without torch, all else with it."""

from typing import TYPE_CHECKING

from alexnet_lit.distributed.place import Place, here
from alexnet_lit.lazy import lazily

if TYPE_CHECKING:
    from alexnet_lit.distributed.crew import Crew, join
    from alexnet_lit.distributed.devices import cores, describe, follow, resolve
    from alexnet_lit.distributed.launcher import launch
    from alexnet_lit.distributed.split import check_split, shares
    from alexnet_lit.distributed.store import Failure
    from alexnet_lit.distributed.strategy import Surroundings, arguments

__all__ = [
    "Crew",
    "Failure",
    "Place",
    "Surroundings",
    "arguments",
    "check_split",
    "cores",
    "describe",
    "follow",
    "here",
    "join",
    "launch",
    "resolve",
    "shares",
]

_HOMES = {
    "Crew": "crew",
    "Failure": "store",
    "Surroundings": "strategy",
    "arguments": "strategy",
    "check_split": "split",
    "cores": "devices",
    "describe": "devices",
    "follow": "devices",
    "join": "crew",
    "launch": "launcher",
    "resolve": "devices",
    "shares": "split",
}

__getattr__ = lazily(__name__, _HOMES)
