"""What `python -m alexnet_lit bench` measures and prints."""

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import alexnet_lit
from alexnet_lit.__main__ import app
from alexnet_lit.data import Preprocess
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.tools.bench import BENCHES, ddp, epoch, timing
from alexnet_lit.tools.bench.epoch import Pictures
from alexnet_lit.tools.bench.step import GFLOP
from alexnet_lit.tools.bench.timing import alternate, ratios, spread
from alexnet_lit.tools.records import read, titled
from tests.conftest import shrink


def test_cases_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    seconds = alternate({name: partial(calls.append, name) for name in ("a", "b")}, 3, "cpu")
    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert ratios([2.0, 30.0, 6.0], [1.0, 10.0, 2.0]) == [2.0, 3.0, 3.0]
    assert spread([2.0, 3.0, 3.5], 1) == "3.0 (2.0-3.5)"
    assert spread([2.0]) == "2.00"


def test_the_arithmetic_of_a_training_image() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model.dropout=0")).to("meta")
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 224, 224, device="meta")).sum().backward()
    assert pytest.approx(counter.get_total_flops() / 1e9, rel=1e-6) == GFLOP


measure_ddp = ddp._measure_ddp


def measure_small_ddp(*arguments: Any) -> None:
    """One of its processes, with a small net."""
    shrink()
    measure_ddp(*arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("small_nets")
@pytest.mark.parametrize("name", BENCHES)
def test_every_measurement_fills_its_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its smallest: one round, and nothing is warmed up."""
    file = tmp_path / "bench.jsonl"
    for module in (timing, epoch):
        monkeypatch.setattr(module, "rounds", lambda cases, _: {name: [case()] for name, case in cases.items()})
    monkeypatch.setattr(ddp, "_measure_ddp", measure_small_ddp)
    monkeypatch.setattr(timing, "_SIDES", {"cpu": 64})
    monkeypatch.setattr(epoch, "_BATCHES", 2)
    monkeypatch.setattr(epoch, "_TRAIN", {"cpu": 1})
    arguments = ["bench", name, "--device", "cpu", "--batch", "2", "--repeats", "1", "--out", str(file)]

    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"1 of 1  {name}: ")
    (record,) = read(file)
    table = record["table"]
    assert done.stdout == f"{titled(record)}\n\n"
    assert f"**{table['title']}** ({table['how']}). `{record['command']}`, {record['machine']}, " in done.stdout
    assert record["command"] == f"python -m alexnet_lit bench {name} --batch 2 --repeats 1"
    assert len(table["rows"]) >= 2
    for row in table["rows"]:
        assert f"| {' | '.join(row.values())} |" in done.stdout
        assert all(
            float(value.split()[0]) > 0
            for key, value in row.items()
            if key in ("ours, s", "images/s", "s") or (key == "torch / ours" and value)
        )


@pytest.mark.parametrize(("batch", "count"), [(64, 60_000), (8192, 8192 * (2 * 4 + 5 + 20))])
def test_every_pipeline_has_batches_to_time(batch: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = Mock(side_effect=lambda pair, count: pair)
    monkeypatch.setattr(epoch, "repeated", repeated)
    monkeypatch.setattr(epoch, "rounds", lambda cases, repeats: {name: [1.0] for name in cases})
    epoch.bench_data(batch=batch, repeats=1, device="cpu")
    assert [each.args[1] for each in repeated.call_args_list] == [count]


def test_the_course_s_loader_gives_what_this_pipeline_gives() -> None:
    """Up to PIL, which rounds to whole values."""
    images, labels = load_sample()["test"]
    pixels = Preprocess(source_size=28, image_size=224, enlarged=224, mean=0.0, std=1.0)
    for image, label, ours in zip(images[:4], labels, pixels(images[:4]), strict=False):
        theirs, named = Pictures(image[None], label[None])[0]
        assert named == label
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1.5 / 255)
