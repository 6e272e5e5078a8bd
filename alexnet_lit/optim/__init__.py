"""Optimizers, learning-rate schedules and gradient clipping."""

from alexnet_lit.optim.muon import Muon
from alexnet_lit.optim.schedules import Schedule, clip, one_cycle

__all__ = ["Muon", "Schedule", "clip", "one_cycle"]
