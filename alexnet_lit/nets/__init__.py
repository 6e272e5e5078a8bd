"""What is trained: nets and their layers. Knows torch, nothing else."""

from alexnet_lit.nets.alexnet import AlexNet
from alexnet_lit.nets.lenet import LeNet
from alexnet_lit.nets.lrn import LocalResponseNorm

__all__ = ["AlexNet", "LeNet", "LocalResponseNorm"]
