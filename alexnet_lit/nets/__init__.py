"""What is trained: nets and their layers. Knows torch, nothing else."""

from alexnet_lit.nets.alexnet import AlexNet
from alexnet_lit.nets.lenet import LeNet
from alexnet_lit.nets.lrn import LocalResponseNorm
from alexnet_lit.nets.weights import copy_weights, load_weights

__all__ = ["AlexNet", "LeNet", "LocalResponseNorm", "copy_weights", "load_weights"]
