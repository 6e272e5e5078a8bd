"""A net as TensorBoard's page Graphs draws it: its layers in the order of the forward pass."""

from tensorboard.compat.proto.attr_value_pb2 import AttrValue  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.graph_pb2 import GraphDef  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.node_def_pb2 import NodeDef  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto  # type: ignore[attr-defined] # as well
from torch import nn

from alexnet_lit.callbacks.summary import trace


def graph(net: nn.Module, input_shape: tuple[int, ...]) -> GraphDef:
    """The layers that are called for one image of `input_shape` (channels, height, width), one after the other, as the
    nets here are; each with its shape and its number of parameters. torch's own way, by `torch.jit.trace`, shows
    hundreds of operations and is deprecated.
    """
    nodes = [_node("images", "Input", (1, *input_shape), [])]
    for call in trace(net, input_shape):
        own = sum(parameter.numel() for parameter in call.layer.parameters())
        name = call.name.replace(".", "/")
        nodes.append(_node(name, type(call.layer).__name__, call.shape, [nodes[-1].name], parameters=own))
    return GraphDef(node=nodes)


def _node(name: str, kind: str, shape: tuple[int, ...], inputs: list[str], **numbers: int) -> NodeDef:
    sizes = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    attributes = {"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=[sizes]))}
    attributes |= {key: AttrValue(i=number) for key, number in numbers.items() if number}
    return NodeDef(name=name, op=kind, input=inputs, attr=attributes)
