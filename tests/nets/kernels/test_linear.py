"""The linear layer in bfloat16 autocast with AMX: products of the same bfloat16 numbers, gradients in float32."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.nets.kernels import native
from alexnet_lit.nets.kernels.linear import Linear


def autocast_outcome(layer: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients of x and the parameters, of a loss whose gradients are bfloat16 numbers."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    weights = torch.linspace(-1, 1, out.numel()).bfloat16().view(out.shape)
    return (out, *torch.autograd.grad(out, (x, *layer.parameters()), weights))


@pytest.mark.parametrize("batch", [3, 32, 33])
def test_gradients_are_those_of_the_rounded_numbers(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "bf16_units", lambda: "AMX")
    torch.manual_seed(0)
    layer, x = Linear(40, 24), torch.randn(batch, 40)
    out, of_x, of_weight, of_bias = autocast_outcome(layer, x)
    assert (out.dtype, of_x.dtype, of_weight.dtype, of_bias.dtype) == (torch.bfloat16, *3 * [torch.float32])
    gradient = torch.linspace(-1, 1, batch * 24).bfloat16().double().view(batch, 24)
    rounded = x.bfloat16().double(), layer.weight.bfloat16().double(), layer.bias.bfloat16().double()
    torch.testing.assert_close(of_weight.double(), gradient.mT @ rounded[0], rtol=1e-5, atol=1e-5)  # not 1e-2
    torch.testing.assert_close(of_bias.double(), gradient.sum(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(of_x.double(), gradient @ rounded[1], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(out.double(), F.linear(*rounded), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("units", ["", "AVX512-BF16"])
def test_without_amx_it_is_torchs(units: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "bf16_units", lambda: units)
    layer, theirs, x = Linear(8, 4), nn.Linear(8, 4), torch.randn(5, 8)
    theirs.load_state_dict(layer.state_dict())
    torch.testing.assert_close(autocast_outcome(layer, x), autocast_outcome(theirs, x), rtol=0, atol=0)


def test_with_amx_a_net_in_float32_and_an_evaluated_one_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("data=sample", "model=lenet", "data.image_size=28")).eval()
    images = torch.rand(2, 1, 28, 28)
    wanted = net(images)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted_in_bf16 = net(images)
    monkeypatch.setattr(native, "bf16_units", lambda: "AMX")
    torch.testing.assert_close(net(images), wanted, rtol=0, atol=0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(net(images), wanted_in_bf16, rtol=0, atol=0)
