"""The convolution by blocks of pixels against torch's own."""

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from alexnet_lit.nets.kernels import native
from alexnet_lit.nets.kernels.strided import StridedConv2d

# channels, kernel, stride, padding, height and width
CASES = [
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


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), CASES)
def test_equals_torchs_convolution(
    channels: int, kernel: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    ours = StridedConv2d(channels, 6, kernel, stride, padding).double()
    theirs = nn.Conv2d(channels, 6, kernel, stride, padding).double()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(outcome(ours, images, by_blocks=True), outcome(theirs, images, by_blocks=False))
    torch.testing.assert_close(ours(images), theirs(images), atol=0, rtol=0)


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "size"), CASES)
def test_a_gpu_agrees_with_the_cpu(
    channels: int, kernel: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = StridedConv2d(channels, 6, kernel, stride, padding).double()
    images = torch.rand(2, channels, *size, dtype=torch.float64)
    wanted = outcome(layer, images, by_blocks=False)
    torch.testing.assert_close(outcome(layer.cuda(), images.cuda(), by_blocks=False), [each.cuda() for each in wanted])
