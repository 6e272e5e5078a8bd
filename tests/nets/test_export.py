"""Nets outside torch's eager mode: as ONNX, as exported programs, compiled, and under deterministic algorithms."""

import os
import shutil
from collections.abc import Callable, Iterator

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.nets import LocalResponseNorm
from tests.nets.test_alexnet import real_images

SIZE = 67  # px: enough for every net
DYNAMIC = ({0: torch.export.Dim("batch")},)


def build(name: str, *switches: str) -> nn.Module:
    """A net whose logits depend on every layer: the last one is not 0, and normalisation takes off what can be seen."""
    torch.manual_seed(0)
    keys = [f"model.{switch}" for switch in ("lrn_alpha=1.0", *switches)]
    net = alexnet_lit.build_net(alexnet_lit.compose(f"model={name}", f"data.image_size={SIZE}", *keys))
    *_, last = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    nn.init.normal_(last.weight, std=0.1)
    return net.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return real_images(5, size=SIZE)[0]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "typed", [pytest.param("alexnet_owt lrn=true", marks=pytest.mark.slow), "lenet lrn=true lrn_reduction=sum"]
)
def test_onnx_gives_torchs_logits(typed: str, images: Tensor, small_nets: None) -> None:
    net = build(*typed.split())

    program = torch.onnx.export(net, (images[:2],), dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):
        (logits,) = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), net(batch), rtol=1e-4, atol=1e-4)


def results(layer: Callable[[Tensor], Tensor], module: nn.Module, images: Tensor) -> list[Tensor]:
    """What comes out of `layer`, and the gradients of its input and of the parameters of `module`."""
    module.zero_grad()
    x = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    target = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    F.mse_loss(out, target, reduction="sum").backward()  # a gradient that differs from place to place
    assert x.grad is not None
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert len(gradients) == len(list(module.parameters()))
    return [out.detach(), x.grad, *gradients]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
def test_a_net_is_compiled_as_one_graph(images: Tensor) -> None:
    # In float32 the gradients differ by what the order of their terms makes.
    net, images = build("alexnet_2012", "lrn=true", "dropout=0.0").double().train(), images.double()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(results(compiled, net, images), results(net, net, images), rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler, which inductor calls")
def test_the_layer_is_compiled_as_one_graph() -> None:
    layer = LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, reduction="mean")
    x = torch.randn(2, 24, 9, 9).contiguous(memory_format=torch.channels_last)
    mine, eager = results(torch.compile(layer, fullgraph=True), layer, x), results(layer, layer, x)
    torch.testing.assert_close(mine, eager, rtol=1e-5, atol=1e-5)


def test_the_layer_is_the_same_under_deterministic_algorithms() -> None:
    layer = LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, reduction="mean")
    x = torch.randn(2, 24, 9, 9).contiguous(memory_format=torch.channels_last)
    before = results(layer, layer, x)
    torch.use_deterministic_algorithms(True)  # from here on, torch.empty returns NaN
    try:
        torch.testing.assert_close(results(layer, layer, x), before, rtol=0, atol=0)
    finally:
        torch.use_deterministic_algorithms(False)
