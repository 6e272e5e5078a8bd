import torch
from torch import Tensor, nn

from alexnet_lit.watch import closing, layers
from alexnet_lit.watch.console import plain


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
    assert rows(plain(layers(Block(), (1, 8, 8)))) == [
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


def test_a_layer_that_is_used_twice_is_counted_once() -> None:
    shared = nn.Linear(4, 4)
    table = rows(plain(layers(nn.Sequential(shared, nn.Tanh(), shared), (4,))))
    assert [row[-1] for row in table] == ["parameters", "4", "20", "4", "4", "20"]


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
    assert rows(plain(layers(net, (1, 8, 8))))[-1] == ["total", "418"]
    assert compiled == []


def test_the_end_of_a_run_in_a_few_lines() -> None:
    result = {
        "status": "completed",
        "test/acc": 0.88312,
        "test/loss": 0.331,
        "val/acc_best": 0.9,
        "seconds": 3723.44,
        "images_per_second": 19.84,
        "run_dir": "/logs/runs/one",
        "checkpoint": "/logs/runs/one/checkpoints/best.ckpt",
        "tensorboard": "tensorboard --logdir /logs",
        "seed": 0,
    }
    assert plain(closing(result)).splitlines() == [
        "status                    completed",
        "test accuracy             0.8831",
        "test loss                 0.3310",
        "best validation accuracy  0.9000",
        "training time             1:02:03",
        "speed                     20 images/s",
        "run folder                /logs/runs/one",
        "checkpoint                /logs/runs/one/checkpoints/best.ckpt",
        "curves                    tensorboard --logdir /logs",
    ]


def test_what_is_missing_is_left_out() -> None:
    assert plain(closing({"status": "interrupted", "test/acc": None, "seconds": 5.25})).splitlines() == [
        "status         interrupted",
        "training time  0:00:05",
    ]
    assert plain(closing({})) == ""


def test_one_image_is_enough_for_batch_norm() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))  # in training it asks for two values
    assert rows(plain(layers(net, (1, 2, 2))))[-2] == ["2", "BatchNorm1d", "1", "x", "3", "6"]
