"""Kernels beside torch's own: memory, bfloat16 on a CPU, linear layers and strided convolutions."""

import platform
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.nets import cost
from alexnet_lit.nets.cost import bf16_speedup, cpu_precision
from alexnet_lit.nets.kernels import native
from alexnet_lit.nets.kernels.layers import Linear, StridedConv2d
from alexnet_lit.prepare import prepare


def pages() -> int:
    """How many the system clears and hands out while 64 MB are written."""
    import resource  # which Windows lacks

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**24).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_a_run_on_a_cpu_gets_memory_again_that_it_freed(tmp_path: Path) -> None:
    prepare(alexnet_lit.compose("data=sample", "model=lenet", "trainer.accelerator=cpu"), tmp_path)
    assert min(pages() for _ in range(20)) < 100  # of 16,384


@pytest.mark.parametrize(
    ("units", "speedup", "precision", "reason"),
    [
        ("AMX", 3.6, "bf16-mixed", "3.6 times as fast as float32 on this CPU (AMX); trainer.precision=32-true gives"),
        ("AMX", 1.5, "bf16-mixed", "1.5 times as fast"),
        ("AVX512-BF16", 1.4, "32-true", "bf16-mixed would be 1.4 times as fast as float32 on this CPU (AVX512-BF16)"),
        ("", None, "32-true", ""),  # nothing is measured where bf16 is emulated
    ],
)
def test_the_choice_of_a_precision(
    units: str, speedup: float | None, precision: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(net: nn.Module, shape: tuple[int, ...]) -> float:
        assert speedup is not None
        return speedup

    monkeypatch.setattr(cost, "bf16_units", lambda: units)
    monkeypatch.setattr(cost, "bf16_speedup", measure)
    chosen, why = cpu_precision(nn.Flatten(), (1, 8, 8))
    assert (chosen, why[: len(reason)]) == (precision, reason)


def test_a_measurement_leaves_random_numbers_and_the_net_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Dropout(), nn.Linear(144, 3))
    random, weights = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    assert bf16_speedup(net, (1, 8, 8)) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


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
    with pytest.raises(RuntimeError, match="no second derivatives"), torch.autocast("cpu", torch.bfloat16):
        torch.autograd.grad(layer(x).float().sum(), layer.weight, create_graph=True)
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


Case = tuple[int, int, int, int, tuple[int, int]]
# channels, kernel, stride, padding, height and width
CASES: list[Any] = [
    (1, 11, 4, 1, (80, 80)),  # the course's
    (3, 11, 4, 2, (80, 80)),  # the paper's and torchvision's
    (2, 12, 4, 0, (40, 41)),  # windows of whole blocks
    (2, 5, 3, 4, (17, 30)),
    (1, 2, 5, 0, (9, 23)),  # pixels between windows that none sees
    (4, (3, 7), (2, 3), (0, 2), (11, 16)),
]


def outcome(layer: nn.Conv2d, images: Tensor, by_blocks: bool) -> list[Tensor]:
    """The output, and the gradients of images, weight and bias."""
    images = images.clone().requires_grad_()
    out = layer.by_blocks(images) if by_blocks and isinstance(layer, StridedConv2d) else layer(images)
    assert layer.bias is not None
    return [out, *torch.autograd.grad(out.sin().sum(), (images, layer.weight, layer.bias))]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("case", CASES)
def test_equals_torchs_convolution(case: Case, device: str) -> None:
    channels, kernel, stride, padding, size = case
    torch.manual_seed(0)
    ours = StridedConv2d(channels, 6, kernel, stride, padding).double().to(device)
    theirs = nn.Conv2d(channels, 6, kernel, stride, padding).double().to(device)
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, channels, *size, dtype=torch.float64).to(device)
    wanted = outcome(theirs, images, by_blocks=False)
    torch.testing.assert_close(outcome(ours, images, by_blocks=True), wanted)
    exact: Any = {"atol": 0, "rtol": 0} if device == "cpu" else {}  # a GPU takes blocks, a CPU without AMX does not
    torch.testing.assert_close(ours(images), wanted[0], **exact)


@pytest.mark.parametrize("channels", [1, 3])
def test_output_and_gradient_lie_in_memory_as_those_of_convolutions_do(channels: int) -> None:
    """Next to the weights: of a gradient with other strides DistributedDataParallel warns, be it for one channel."""
    layer = StridedConv2d(channels, 96, 11, 4, 1).to(memory_format=torch.channels_last)
    out = layer.by_blocks(torch.rand(2, channels, 67, 67))
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.stride() == layer.weight.stride()


def test_in_bf16_autocast_amx_takes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, images = StridedConv2d(1, 6, 11, 4, 1), torch.rand(2, 1, 80, 80)
    by_blocks = Mock(side_effect=layer.by_blocks)
    monkeypatch.setattr(layer, "by_blocks", by_blocks)
    for units, count in [("", 0), ("AVX512-BF16", 0), ("AMX", 1)]:
        monkeypatch.setattr(native, "bf16_units", lambda units=units: units)
        layer(images)
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(images)
        assert by_blocks.call_count == count
        torch.testing.assert_close(out.float(), nn.Conv2d.forward(layer, images), rtol=2e-2, atol=2e-2)
