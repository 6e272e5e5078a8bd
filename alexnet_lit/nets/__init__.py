"""Nets and their layers."""

from alexnet_lit.nets.alexnet import AlexNet
from alexnet_lit.nets.lenet import LeNet
from alexnet_lit.nets.lrn import LocalResponseNorm

__all__ = ["AlexNet", "LeNet", "LocalResponseNorm"]
