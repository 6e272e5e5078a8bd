"""precision=auto on a CPU: bf16 where it has units for it that pay, else float32."""

import pytest
import torch
from torch import nn

import alexnet_lit
from alexnet_lit.nets.kernels import bf16
from alexnet_lit.nets.kernels.bf16 import bf16_speedup, cpu_precision


@pytest.mark.parametrize(
    ("units", "speedup", "precision", "reason"),
    [
        ("AMX", 3.6, "bf16-mixed", "3.6 times as fast as float32 on this CPU (AMX); trainer.precision=32-true gives"),
        ("AMX", 1.5, "bf16-mixed", "1.5 times as fast"),
        ("AVX512-BF16", 1.4, "32-true", "bf16-mixed would be 1.4 times as fast as float32 on this CPU (AVX512-BF16)"),
        ("", None, "32-true", ""),  # nothing is measured where bf16 is emulated
    ],
)
def test_the_choice_follows_from_units_and_measured_speed(
    units: str, speedup: float | None, precision: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(net: nn.Module, shape: tuple[int, ...]) -> float:
        assert speedup is not None
        return speedup

    monkeypatch.setattr(bf16, "bf16_units", lambda: units)
    monkeypatch.setattr(bf16, "bf16_speedup", measure)
    chosen, why = cpu_precision(nn.Flatten(), (1, 8, 8))
    assert (chosen, why[: len(reason)]) == (precision, reason)


def test_the_most_expensive_layer_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[nn.Module, torch.Size]] = []

    def measure(layer: nn.Module, shape: torch.Size) -> float:
        measured.append((layer, shape))
        return 2.0

    monkeypatch.setattr(bf16, "_layer_speedup", measure)
    net = alexnet_lit.build_net(alexnet_lit.compose("data=sample"))
    assert bf16_speedup(net, (1, 224, 224)) == 2.0
    ((layer, shape),) = measured
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels, tuple(shape)) == (96, 256, (96, 26, 26))  # 0.415 of 0.938 GMAC
    assert bf16_speedup(nn.Flatten(), (1, 8, 8)) == 1.0


def test_a_measurement_leaves_random_numbers_and_the_net_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Dropout(), nn.Linear(144, 3))
    random, weights = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    assert bf16_speedup(net, (1, 8, 8)) > 0
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
