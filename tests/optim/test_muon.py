"""Muon against torch's own, where that takes the matrices; AdamW elsewhere."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn

import alexnet_lit
from alexnet_lit.optim.muon import Muon, orthogonal, orthogonal_each
from alexnet_lit.prepare import prepare
from alexnet_lit.terminal import quiet_libraries

SETTINGS: dict[str, Any] = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "fused": True}


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tolerances on every CPU."""
    monkeypatch.setattr("alexnet_lit.optim.muon.bf16_units", lambda: "")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def groups(module: nn.Module) -> list[dict[str, Any]]:
    sides = [[each for each in module.parameters() if (each.ndim > 1) is matrix] for matrix in (True, False)]
    return [{"params": sides[0]}, {"params": sides[1], "weight_decay": 0.0, "lr": 0.01}]


@pytest.mark.parametrize("shape", [(27, 8), (64, 800)])
def test_without_full_rank_it_is_the_iteration_in_float64(shape: tuple[int, int]) -> None:
    """However small the singular values: from as large as can be to less than the smallest digit."""
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    spectrum = torch.logspace(0, -9, min(shape))
    spectrum[5:] = 0
    matrix = left * spectrum @ right
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        x = 3.4445 * x + (-4.7750 * x @ x.mT + 2.0315 * x @ x.mT @ x @ x.mT) @ x
    torch.testing.assert_close(orthogonal(matrix).double(), x, atol=1e-3 * x.abs().max().item(), rtol=0)


def test_with_units_for_bfloat16_it_is_as_rough_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(64, 800, generator=torch.Generator().manual_seed(0))
    exact = orthogonal(matrix)
    monkeypatch.setattr("alexnet_lit.optim.muon.bf16_units", lambda: "AMX")
    rough = orthogonal(matrix)
    assert rough.dtype == torch.float32
    assert 1e-3 < (rough - exact).norm() / exact.norm() < 3e-2


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_batch_gives_each_matrix_what_it_has_alone(device: str) -> None:
    """Wide, tall and square ones; a GPU iterates in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator).to(device) for shape in ((16, 40), (30, 24), (12, 12))]
    batch = orthogonal_each(matrices, batched=True)
    for step, alone in zip(batch, orthogonal_each(matrices, batched=False), strict=True):
        torch.testing.assert_close(step, alone, atol=1e-5 if device == "cpu" else 3e-2, rtol=0)


@pytest.mark.parametrize("linear", [False, True])
def test_the_first_step_is_that_of_torchs_muon_and_adamw(linear: bool) -> None:
    ours, theirs = net(), net()
    mine = dict(ours.named_parameters())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    copy.deepcopy(Muon(groups(ours), momentum=0.95, linear=linear, **SETTINGS)).step()
    Muon(groups(ours), momentum=0.95, linear=linear, **SETTINGS).step()
    torch.optim.AdamW(groups(theirs), **SETTINGS).step()
    for (name, before), after in zip(net().named_parameters(), theirs.parameters(), strict=True):
        assert after.grad is not None
        wanted = after.detach()
        if name == "0.weight" or (linear and name == "3.weight"):
            view = nn.Parameter(before.detach().flatten(1).clone())  # torch's takes matrices alone
            view.grad = after.grad.contiguous().flatten(1)
            muon: Any = torch.optim.Muon([view], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
            muon.step()
            wanted = view.detach().view(before.shape)
        # torch's iterates in bfloat16, which has 8 bits of each number: 3% of the largest step here.
        torch.testing.assert_close(mine[name].detach(), wanted, atol=4e-4, rtol=0, msg=name)
        assert (mine[name] - before).abs().max() > 2e-3, name


def test_later_steps_have_momentum_and_look_ahead() -> None:
    module = net()
    kernel = module.get_parameter("0.weight")
    wanted, momentum = kernel.detach().clone(), torch.zeros_like(kernel)
    optimizer = Muon(module.parameters(), momentum=0.95, linear=False, scale=0.3, **SETTINGS)
    for step in range(4):
        images = torch.randn(64, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()
        assert kernel.grad is not None
        momentum = 0.95 * momentum + 0.05 * kernel.grad
        direction = orthogonal((0.95 * momentum + 0.05 * kernel.grad).flatten(1)).view(kernel.shape)
        wanted = wanted * (1 - 0.02 * 0.1) - 0.02 * 0.3 * 27**0.5 * direction
        torch.testing.assert_close(kernel.detach(), wanted, atol=1e-5, rtol=0)


def test_a_gradient_scaler_changes_nothing_but_skips_steps_that_overflow() -> None:
    plain, scaled = net(), net()
    settings = SETTINGS | {"momentum": 0.95, "linear": False}
    one, other = Muon(plain.parameters(), **settings), Muon(scaled.parameters(), **settings)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for step in range(4):
        images = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        one.zero_grad()
        other.zero_grad()
        plain(images).square().mean().backward()
        scaler.scale(scaled(images).square().mean()).backward()
        if step == 2:  # a step that is not to be
            kernel = scaled.get_parameter("0.weight")
            assert kernel.grad is not None
            kernel.grad[0, 0, 0, 0] = torch.inf
        else:
            one.step()
        scaler.step(other)
        scaler.update()
        for mine, wanted in zip(scaled.parameters(), plain.parameters(), strict=True):
            assert torch.equal(mine, wanted)
    assert scaler.get_scale() == 2.0**15


def test_its_gradients_are_clipped_beside_a_gradient_scaler(tmp_path: Path) -> None:
    """As trainer.precision=16-mixed does on a GPU."""
    quiet_libraries()
    parts = prepare(
        alexnet_lit.compose(
            *("data=sample", "data.image_size=28", "model=lenet", "data.batch_size=8", "optimizer=muon"),
            *("trainer.accelerator=cpu", "trainer.max_steps=2", "trainer.limit_val_batches=0", "logger=none"),
            *("objective=null", "trainer.enable_progress_bar=false", "trainer.enable_checkpointing=false"),
        ),
        tmp_path,
    )
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**12))
    parts.trainer.strategy.precision_plugin = plugin
    parts.trainer.fit(parts.module, datamodule=parts.data)
    assert parts.trainer.global_step == 2
    ((_, norm),) = parts.history.points["grad_norm"]
    gradients = (each.grad for each in parts.module.net.parameters())
    clipped = torch.nn.utils.get_total_norm([each for each in gradients if each is not None])
    assert norm < 2**10  # of gradients without the factor
    assert clipped.item() == pytest.approx(min(norm, 1.0), rel=1e-2)
