import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet_lit import build_net, compose
from alexnet_lit.__main__ import main
from alexnet_lit.callbacks.summary import closing, layers
from alexnet_lit.terminal import plain_text


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip() and "─" not in line]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(36, 10)
        self.same = self.out

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.rand(1)  # a net may draw random numbers of its own
        out: Tensor = self.out(self.drop(self.features(images + noise).flatten(1)))
        return out


def test_every_layer_in_the_order_of_the_forward_pass() -> None:
    assert rows(plain_text(layers(Block(), (1, 8, 8)))) == [
        ["layer", "type", "output", "parameters"],
        ["input", "1", "x", "1", "x", "8", "x", "8"],
        ["features.0", "Conv2d", "1", "x", "4", "x", "6", "x", "6", "40"],
        ["features.1", "BatchNorm2d", "1", "x", "4", "x", "6", "x", "6", "8"],
        ["features.2", "ReLU", "1", "x", "4", "x", "6", "x", "6"],
        ["features.3", "MaxPool2d", "1", "x", "4", "x", "3", "x", "3"],
        ["drop", "Dropout", "1", "x", "36"],
        ["out", "Linear", "1", "x", "10", "370"],
        ["total", "418"],
    ]


def test_what_each_layer_costs() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),  # each number of the output from 2 x 3 x 3 of the input
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(20_000, 50),
    )
    assert plain_text(layers(net, (4, 102, 102), costs=True)).splitlines()[1:] == [
        " layer   type        output              parameters       %   multiply-adds      %   activations, MB      %",
        " ──────────────────────────────────────────────────────────────────────────────────────────────────────────",
        " input               1 x 4 x 102 x 102",
        " 0       Conv2d      1 x 8 x 100 x 100          152     0.0       1,440,000   59.0             0.320   66.6",
        " 1       ReLU        1 x 8 x 100 x 100",
        " 2       MaxPool2d   1 x 8 x 50 x 50                                                           0.080   16.7",
        " 3       Tanh        1 x 8 x 50 x 50                                                           0.080   16.7",
        " 4       Flatten     1 x 20000",
        " 5       Dropout     1 x 20000",
        " 6       Linear      1 x 50               1,000,050   100.0       1,000,000   41.0             0.000    0.0",
        "",
        " total                                    1,000,202               2,440,000                    0.480",
    ]


def test_a_layer_that_is_used_twice_multiplies_twice() -> None:
    shared = nn.Linear(4, 4, bias=False)
    table = rows(plain_text(layers(nn.Sequential(shared, nn.Tanh(), shared), (4,), costs=True)))
    assert table[2] == ["0", "Linear", "1", "x", "4", "16", "100.0", "16", "50.0", "0.000", "33.3"]
    assert table[4] == ["0", "Linear", "1", "x", "4", "16", "50.0", "0.000", "33.3"]
    assert table[5] == ["total", "16", "32", "0.000"]


def test_multiply_adds_are_half_of_the_operations_that_torch_counts() -> None:
    net = build_net(compose("model=alexnet_2012", "data.image_size=96")).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(torch.zeros(1, 1, 96, 96))
    total = rows(plain_text(layers(net, (1, 96, 96), costs=True)))[-1]
    assert total[2] == f"{counter.get_total_flops() // 2:,}"


def test_nobody_notices() -> None:
    net = Block()
    net.features.eval()
    modes = [module.training for module in net.modules()]
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    before = torch.get_rng_state()
    layers(net, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(value.device.type == "cpu" for value in net.state_dict().values())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_compiled_net_is_not_compiled_for_its_summary() -> None:
    net = Block()
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compiled.append(graph)
        return graph.forward

    net.compile(backend=backend)
    assert rows(plain_text(layers(net, (1, 8, 8))))[-1] == ["total", "418"]
    assert compiled == []


def test_the_end_of_a_run_in_a_few_lines() -> None:
    result = {
        "status": "completed",
        "test/acc": 0.88312,
        "test/loss": None,
        "val/acc_best": 0.9,
        "seconds": 3723.44,
        "images_per_second": 19.84,
        "run_dir": "/logs/runs/one",
        "checkpoint": "/logs/runs/one/checkpoints/best.ckpt",
        "tensorboard": "tensorboard --logdir /logs",
        "seed": 0,
    }
    assert plain_text(closing(result)).splitlines() == [
        "status                    completed",
        "test accuracy             0.8831",
        "best validation accuracy  0.9000",
        "training time             1:02:03",
        "speed                     20 images/s",
        "run folder                /logs/runs/one",
        "checkpoint                /logs/runs/one/checkpoints/best.ckpt",
        "curves                    tensorboard --logdir /logs",
    ]


def _summary(*overrides: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit status of `python -m alexnet_lit summary ...` inside this process."""
    monkeypatch.setattr(sys, "argv", ["alexnet-lit", "summary", *overrides])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize(
    ("overrides", "total"),
    [
        (["data.dir=/nowhere", "data.search=[]"], ["total", "46,764,746", "938,146,176", "2.867"]),
        (
            ["model=alexnet_2012", "model.in_channels=3", "model.num_classes=1000"],
            ["total", "60,965,224", "724,406,816", "5.035"],
        ),
    ],
    ids=["course", "2012"],
)
def test_the_verb_prints_a_net_as_configured(
    overrides: list[str], total: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _summary(*overrides, monkeypatch=monkeypatch) == 0
    table = rows(capsys.readouterr().out)
    assert table[0] == ["layer", "type", "output", "parameters", "%", "multiply-adds", "%", "activations,", "MB", "%"]
    assert table[-1] == total
