"""What `python -m alexnet_lit bench` measures and prints."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import alexnet_lit
from alexnet_lit.__main__ import app
from alexnet_lit.bench import BENCHES, measure
from alexnet_lit.bench.data import Pictures, seconds_a_batch
from alexnet_lit.bench.step import GFLOP
from alexnet_lit.bench.timing import Report, alternate, ratios, spread
from alexnet_lit.data import Pixels
from alexnet_lit.data.files import load_sample
from alexnet_lit.errors import Mistake


def test_cases_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    cases = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}

    seconds = alternate(cases, repeats=3, device="cpu")

    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert all(value > 0 for values in seconds.values() for value in values)


def test_a_ratio_is_taken_within_its_round() -> None:
    assert ratios([2.0, 30.0, 6.0], [1.0, 10.0, 2.0]) == [2.0, 3.0, 3.0]
    assert spread([2.0, 3.0, 3.5], 1) == "3.0 (2.0-3.5)"


def test_a_table_in_markdown() -> None:
    table = Report("Title", "A machine.", [{"case": "one", "s": "1.0"}, {"case": "two", "s": "2.0"}])
    assert table.markdown().splitlines() == [
        *("## Title", "", "A machine.", ""),
        *("| case | s |", "| --- | --- |", "| one | 1.0 |", "| two | 2.0 |"),
    ]


def test_the_arithmetic_of_a_training_image() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model.dropout=0"))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 224, 224)).sum().backward()
    assert pytest.approx(counter.get_total_flops() / 1e9, rel=1e-6) == GFLOP


def filled(name: str, folder: Path) -> list[dict[str, str]]:
    """Rows of the table that a measurement prints."""
    file = folder / "bench.json"
    arguments = ["bench", name, "--batch", "2", "--repeats", "1", "--json", str(file)]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    (table,) = json.loads(file.read_text())
    assert table["title"] in done.output
    assert len(table["rows"]) >= 3
    assert f"torch {torch.__version__}" in table["conditions"]
    for row in table["rows"]:
        assert f"| {' | '.join(row.values())} |" in done.output
        assert all(
            float(value.split()[0]) > 0 for key, value in row.items() if key in ("torch / ours", "images/s", "s")
        )
    rows: list[dict[str, str]] = table["rows"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BENCHES if name != "parallel"])
def test_every_measurement_fills_its_table(name: str, tmp_path: Path) -> None:
    filled(name, tmp_path)


@pytest.mark.slow
def test_what_two_devices_send_and_hold(tmp_path: Path) -> None:
    rows = {row["step"]: row for row in filled("parallel", tmp_path)}
    memory = {name: float(row["peak memory a device, MB"]) for name, row in rows.items()}

    # Of each of two images: channels at the border in both normalisations, then what conv3, linear6 and linear7 take.
    tower = 2 * 55 * 55 + 2 * 27 * 27 + 128 * 13 * 13 + 128 * 6 * 6 + 2048
    kernels = 56_885_962 - (9217 * 4096 + 4097 * 4096 + 4097 * 10)
    numbers = {
        "one device": 0,
        "DDP": 56_885_962,
        "towers": 2 * (2 * tower + 10),
        "hybrid": kernels + 2 * 9216 + 2 * (2 * 2048 + 10),
    }
    for name, count in numbers.items():
        assert float(rows[name]["MB sent a step and device"]) == pytest.approx(4e-6 * count, abs=0.051), name
    assert memory["towers"] < 0.6 * memory["one device"] < memory["DDP"]


def test_the_course_s_loader_gives_what_this_pipeline_gives() -> None:
    """Up to PIL, which rounds to whole values."""
    images, labels = load_sample().test
    pixels = Pixels(source_size=28, image_size=224, enlarged=224, mean=0.0, std=1.0)
    for image, label, ours in zip(images[:4], labels, pixels(images[:4]), strict=False):
        theirs, named = Pictures(image[None], label[None])[0]
        assert named == label
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1.5 / 255)


def test_a_batch_is_timed_behind_those_that_warm_up() -> None:
    def batches() -> Iterator[int]:
        for number in range(100):
            time.sleep(1.0 if number < 2 else 0.001)
            yield number

    assert 0.001 <= seconds_a_batch(batches(), 2, "cpu") < 0.05


@pytest.mark.parametrize(
    ("names", "device", "line"),
    [
        (
            ["lnr"],
            "cpu",
            "bench lnr: there is no such measurement: use lrn, step, profile, data, epoch, start, ddp, parallel",
        ),
        (None, "gpu", "--device=gpu: should be cpu or cuda"),
        pytest.param(
            *(None, "cuda", "--device=cuda: there is no such device here"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_there_is_not(names: list[str] | None, device: str, line: str) -> None:
    with pytest.raises(Mistake, match=line):
        next(measure(names, batch=1, repeats=1, device=device))
