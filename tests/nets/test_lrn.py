"""Local response normalisation against the paper's formula, written as loops."""

import logging
import os
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from alexnet_lit.nets import LocalResponseNorm, lrn
from alexnet_lit.nets.kernels import lrn_cpu, lrn_plain
from tests.conftest import python
from tests.runs import same_with_any

LAYOUTS = [torch.contiguous_format, torch.channels_last]
compiled = pytest.mark.skipif(not lrn_cpu.available(torch.ones(1)), reason="no C compiler with OpenMP here")


@pytest.fixture(params=["compiled", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a C compiler, and without one."""
    if request.param == "plain":
        monkeypatch.setattr(lrn_cpu, "available", lambda x: False)


def by_hand(x: Tensor, size: int, alpha: float, beta: float, k: float, *, mean: bool) -> Tensor:
    """Krizhevsky et al. 2012, section 3.3, channel by channel; the window is torch's."""
    out = torch.empty_like(x)
    channels = x.shape[1]
    for c in range(channels):
        window = range(max(0, c - size // 2), min(channels, c + (size - 1) // 2 + 1))
        squares = sum((x[:, n] ** 2 for n in window), torch.zeros_like(x[:, 0]))
        out[:, c] = x[:, c] / (k + alpha * squares / (size if mean else 1)) ** beta
    return out


@pytest.mark.parametrize("size", [1, 2, 5, 7])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_equals_the_formula(size: int, reduction: Literal["sum", "mean"]) -> None:
    x = 30 * torch.randn(2, 7, 3, 4, dtype=torch.float64)
    layer = LocalResponseNorm(size, alpha=1e-3, beta=0.75, k=2.0, reduction=reduction)
    expected = by_hand(x, size, 1e-3, 0.75, 2.0, mean=reduction == "mean")
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_the_mean_is_torchs_layer() -> None:
    torch.manual_seed(0)
    x, upstream = (100 * torch.randn(2, 96, 5, 5) for _ in range(2))
    ours = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")
    theirs = nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)
    x.requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(*(torch.autograd.grad(layer(x), x, upstream)[0] for layer in (ours, theirs)))


def test_half_precision_is_safe() -> None:
    x = torch.full((1, 5, 1, 1), 300.0, dtype=torch.float16, requires_grad=True)  # 300 squared is beyond float16
    out = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")(x)
    out.sum().backward()
    assert out.dtype == torch.float16
    assert out[0, 2].item() == pytest.approx(49.7, rel=0.01)
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(("size", "beta"), [(4, 0.75), (5, 0.5), (9, 0.75)])
def test_gradient(size: int, beta: float) -> None:
    x = torch.randn(2, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    layer = LocalResponseNorm(size, alpha=0.3, beta=beta, k=1.5, reduction="mean")
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)
    torch.testing.assert_close(torch.func.vmap(layer)(x[None])[0], layer(x))
    torch.testing.assert_close(make_fx(layer)(x)(2 * x), layer(2 * x))


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_with_relu_it_is_a_relu_and_then_the_layer(layout: torch.memory_format, dtype: torch.dtype) -> None:
    mine = torch.randn(2, 7, 5, 4).to(dtype).contiguous(memory_format=layout)
    mine[0, 0, 0] = torch.tensor([0.0, -0.0, torch.nan, -torch.inf])  # where a gradient ends, what must not be hidden
    mine.requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    upstream = torch.randn(2, 7, 5, 4).to(dtype)
    one = LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, reduction="mean", relu=True)
    two = nn.Sequential(nn.ReLU(), LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, reduction="mean"))

    out, expected = one(mine), two(theirs)
    out.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(out, expected, equal_nan=True)
    torch.testing.assert_close(mine.grad, theirs.grad, equal_nan=True)
    assert out[0, 0, 0, 2].isnan()
    assert mine.grad is not None
    assert (out.dtype, out.stride(), mine.grad.stride()) == (dtype, mine.stride(), mine.stride())


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 96, 13, 13), (1, 400, 9, 11), (2, 1, 5, 5), (2, 5, 1, 1), (3, 6)])
@pytest.mark.parametrize(("size", "beta", "relu"), [(4, 0.6, True), (5, 0.75, False), (11, 0.75, True)])
def test_the_compiled_kernel_equals_plain_operations(
    shape: tuple[int, ...], layout: torch.memory_format, size: int, beta: float, relu: bool
) -> None:
    x, gradient = (10 * torch.randn(shape, dtype=torch.float64) for _ in range(2))
    if len(shape) == 4:
        x, gradient = x.contiguous(memory_format=layout), gradient.contiguous(memory_format=layout)
    settings = (size, 1e-2, beta, 1.5, relu)

    for tensor in (x, x[:, ::2]):  # the second has gaps
        out = lrn_cpu.forward(tensor, *settings)
        torch.testing.assert_close(out, lrn_plain.forward(tensor, *settings), rtol=1e-12, atol=1e-12)
        upstream = gradient[:, : tensor.shape[1]]  # of other strides for the second
        grad = lrn_cpu.backward(tensor, upstream, *settings)
        torch.testing.assert_close(grad, lrn_plain.backward(tensor, upstream, *settings), rtol=1e-12, atol=1e-12)


@compiled
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 96, 13, 13), (1, 400, 9, 11), (2, 5, 1, 1)])
@pytest.mark.parametrize(("size", "beta", "relu"), [(5, 0.75, False), (4, 0.6, True)])
def test_bfloat16_is_compiled_and_rounded_once(
    shape: tuple[int, ...], layout: torch.memory_format, size: int, beta: float, relu: bool
) -> None:
    x, upstream = (torch.randn(shape).mul(10).bfloat16().contiguous(memory_format=layout) for _ in range(2))
    mine, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    layer = LocalResponseNorm(size, alpha=1e-2, beta=beta, k=1.5, reduction="mean", relu=relu)
    assert lrn.implementation(mine) is lrn_cpu

    out, expected = layer(mine), layer(exact)
    out.backward(upstream)
    expected.backward(upstream.double())

    half = 2**-8  # of the last of 8 bits
    torch.testing.assert_close(out.double(), expected, rtol=1.001 * half, atol=1e-6)
    assert mine.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(mine.grad.double(), exact.grad, rtol=1.001 * half, atol=1e-5)
    assert (out.dtype, out.stride(), mine.grad.stride()) == (torch.bfloat16, x.stride(), x.stride())


@compiled
def test_its_power_is_right_for_small_and_large_numbers() -> None:
    x = torch.logspace(-9, 18, 1000).view(1, 1, -1)
    exact = x.double() * (1e-6 + x.double().square()) ** -0.75
    torch.testing.assert_close(lrn_cpu.forward(x, 1, 1.0, 0.75, 1e-6, False), exact.float(), rtol=6e-7, atol=0)
    beyond = torch.full((1, 1, 20), 1e30)  # whose square is no float
    for dtype in (torch.float32, torch.bfloat16):
        assert lrn_cpu.forward(beyond.to(dtype), 1, 1.0, 0.75, 1.0, False).isfinite().all()
    many = torch.randn(5, 96, 7, 7)
    assert same_with_any(lambda: lrn_cpu.forward(many, 5, 1e-2, 0.75, 2.0, False))


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CC", '/nowhere/cc "-O2')  # a quote left open is no reason to stop
    lrn_cpu._kernels.cache_clear()
    x = torch.randn(2, 7, 3, 5)
    layer = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")
    try:
        with caplog.at_level(logging.INFO, logger="alexnet_lit"):
            torch.testing.assert_close(layer(x), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(x))
            layer(x)
    finally:
        lrn_cpu._kernels.cache_clear()
    line = "no C compiler with OpenMP here, so local response normalisation takes 6 to 7 times as long"
    assert [record.message for record in caplog.records] == [line]


# Triton's interpreter runs the kernels of the GPU on a CPU. It is chosen when triton is imported, so in a new process.
# A run is 4 channels of float32 and 8 of float16: whole runs; ends of runs; less than a run.
TRITON = """
import itertools
import torch
from alexnet_lit.nets.kernels import lrn_gpu, lrn_plain

shapes = [(1, 16, 2, 2), (2, 11, 1, 2), (1, 3, 2, 3)]
layouts = (torch.contiguous_format, torch.channels_last)
offsets = [(torch.float32, 2**30), (torch.float16, 0)]  # in 32 bits; in 64 bits, as for huge tensors
kinds = [(4, 0.5, False), (9, 0.75, True)]
for shape, layout, (dtype, lrn_gpu._NARROW) in itertools.product(shapes, layouts, offsets):
    x, gradient = (torch.randn(shape).mul(8).to(dtype).contiguous(memory_format=layout) for _ in range(2))
    x[0, :3, 0, 0] = torch.tensor([0.0, -0.0, torch.nan])
    assert lrn_gpu.available(x)
    assert not lrn_gpu.available(x.double())
    for size, beta, relu in kinds:
        settings = (size, 1e-2, beta, 1.5, relu)
        expected = lrn_plain.forward(x, *settings)
        torch.testing.assert_close(lrn_gpu.forward(x, *settings), expected, equal_nan=True)
        expected = lrn_plain.backward(x, gradient, *settings)
        torch.testing.assert_close(lrn_gpu.backward(x, gradient, *settings), expected, equal_nan=True)
    other = gradient.contiguous(memory_format=layouts[layout is layouts[0]])
    torch.testing.assert_close(lrn_gpu.backward(x, other, *settings), expected, equal_nan=True)
print("equal")
"""


@pytest.mark.slow
def test_the_kernels_of_the_gpu_equal_plain_operations() -> None:
    pytest.importorskip("triton", reason="torch brings it where there are GPUs that it knows")
    done = python("-c", TRITON, env=os.environ | {"TRITON_INTERPRET": "1"})
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("channels", "size"), [(96, 5), (11, 5), (96, 31)])
def test_on_a_gpu(layout: torch.memory_format, dtype: torch.dtype, relu: bool, channels: int, size: int) -> None:
    x = torch.randn(4, channels, 13, 13, device="cuda", dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    layer = LocalResponseNorm(size, alpha=1e-2, beta=0.75, k=2.0, reduction="mean", relu=relu)
    settings = (size, 1e-2 / size, 0.75, 2.0, relu)
    out = layer(x)
    out.backward(torch.ones_like(out))
    assert lrn.implementation(x).__name__.endswith("lrn_gpu")
    torch.testing.assert_close(out, lrn_plain.forward(x, *settings))
    torch.testing.assert_close(x.grad, lrn_plain.backward(x, torch.ones_like(out), *settings))
