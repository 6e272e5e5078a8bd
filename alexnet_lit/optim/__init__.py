"""How the weights move: optimizers, learning-rate schedules, clipped gradients, averaged weights, growing images."""

from alexnet_lit.optim.average import MovingAverage
from alexnet_lit.optim.gradients import clip
from alexnet_lit.optim.muon import Muon
from alexnet_lit.optim.schedules import Schedule, one_cycle

__all__ = ["MovingAverage", "Muon", "Schedule", "clip", "one_cycle"]
