import pytest
import torch
from torch import Tensor, nn

from alexnet_lit.callbacks.summary import layer_table
from alexnet_lit.terminal import plain_text
from tests.conftest import Train


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


def test_what_each_layer_costs() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),  # each number of the output from 2 x 3 x 3 of the input
        *(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(20_000, 50)),
    )
    assert plain_text(layer_table(net, (4, 102, 102), costs=True)).splitlines()[1:] == [
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


def test_layers_stand_in_the_order_of_a_forward_pass_which_nobody_notices() -> None:
    """Nor is a net compiled that will be."""
    net, compiled = Block(), list[object]()

    def backend(graph: torch.fx.GraphModule, inputs: object) -> object:
        compiled.append(graph)
        return graph.forward

    net.compile(backend=backend)
    net.features.register_forward_pre_hook(memoryview(b"").tobytes)  # type: ignore[arg-type] # can't be copied, as a profiler's
    net.features.eval()
    modes = [module.training for module in net.modules()]
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    before = torch.get_rng_state()
    names = [row[0] for row in rows(plain_text(layer_table(net, (1, 8, 8))))]
    assert names == ["layer", "input", *(f"features.{number}" for number in range(4)), "drop", "out", "total"]
    assert compiled == []
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert all(value.device.type == "cpu" for value in net.state_dict().values())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("typed", "total"),
    [
        ("data.dir=/nowhere data.search=[]", ["46,764,746", "938,146,176", "2.867"]),
        ("model=alexnet_2012 model.in_channels=3 model.num_classes=1000", ["60,965,224", "724,406,816", "5.035"]),
    ],
)
def test_the_command_prints_a_net_as_configured(typed: str, total: list[str], verb: Train) -> None:
    outcome = verb("summary", *typed.split()).ok()
    table = rows(outcome.out)
    assert table[0] == ["layer", "type", "output", "parameters", "%", "multiply-adds", "%", "activations,", "MB", "%"]
    assert table[-1] == ["total", *total]
