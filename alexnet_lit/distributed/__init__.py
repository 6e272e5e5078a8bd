"""How a run spreads over devices."""

from alexnet_lit.distributed.devices import cores, describe, resolve, resolve_precision
from alexnet_lit.distributed.launch import is_rank, launch, leave, rank

__all__ = ["cores", "describe", "is_rank", "launch", "leave", "rank", "resolve", "resolve_precision"]
