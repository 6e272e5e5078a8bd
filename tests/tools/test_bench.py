"""What `python -m alexnet_lit bench` measures and prints."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import alexnet_lit
from alexnet_lit.__main__ import app
from alexnet_lit.data import Preprocess
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.errors import UserError
from alexnet_lit.tools.bench import BENCHES, Bench, data, fit, launch, measure, timing
from alexnet_lit.tools.bench.data import Pictures
from alexnet_lit.tools.bench.step import GFLOP
from alexnet_lit.tools.bench.timing import Limits, Report, alternate, ratios, spread


def test_cases_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    seconds = alternate({name: partial(calls.append, name) for name in ("a", "b")}, 3, "cpu")

    assert calls == ["a", "b"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert ratios([2.0, 30.0, 6.0], [1.0, 10.0, 2.0]) == [2.0, 3.0, 3.0]
    assert spread([2.0, 3.0, 3.5], 1) == "3.0 (2.0-3.5)"
    assert spread([2.0]) == "2.00"


@pytest.mark.slow
def test_the_arithmetic_of_a_training_image() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model.dropout=0"))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 224, 224)).sum().backward()
    assert pytest.approx(counter.get_total_flops() / 1e9, rel=1e-6) == GFLOP


def test_each_measurement_is_announced_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Report("Title", "A machine.", [{"case": "one"}])
    benches = {"slow": Bench(lambda **_: table, "one thing", on_cpu=256, on_gpu=0)}
    benches["short"] = Bench(lambda **_: table, "another", on_cpu=80, on_gpu=0)
    monkeypatch.setattr("alexnet_lit.tools.bench.BENCHES", benches)
    clock = iter([0.0, 64.0])  # the first took half the estimate
    monkeypatch.setattr("alexnet_lit.tools.bench.time.monotonic", lambda: next(clock))
    said: list[str] = []

    assert list(measure(None, batch=32, repeats=3, device="cpu", say=said.append)) == [table, table]

    assert said == ["1 of 2  slow: one thing; about 3 min left", "2 of 2  short: another; about 20 s left"]
    assert 5 <= sum(bench.on_cpu for bench in BENCHES.values()) / 60 < 12, "as the help has it"


def filled(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Rows of the table that a measurement prints."""
    file = folder / "bench.json"
    for module in (timing, data, fit, launch):  # nothing is warmed up
        monkeypatch.setattr(module, "rounds", lambda cases, _: {name: [case()] for name, case in cases.items()})
    arguments = ["bench", name, "--device", "cpu", "--batch", "2", "--repeats", "1", "--json", str(file)]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    assert done.stderr.startswith(f"1 of 1  {name}: ")
    (table,) = json.loads(file.read_text())
    assert table["title"] in done.output
    assert len(table["rows"]) >= 3
    assert f"torch {torch.__version__}" in table["conditions"]
    for row in table["rows"]:
        assert f"| {' | '.join(row.values())} |" in done.stdout
        assert all(
            float(value.split()[0]) > 0
            for key, value in row.items()
            if key in ("ours, s", "images/s", "s") or (key == "torch / ours" and value)
        )
    rows: list[dict[str, str]] = table["rows"]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BENCHES if name not in ("parallel", "reach")])
def test_every_measurement_fills_its_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("units", ["AVX512-BF16", ""])
def test_a_cpu_with_units_for_bfloat16_is_measured_in_it_too(units: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "bf16_units", lambda: units)
    assert timing.precisions("cpu") == (["32-true", "bf16-mixed"] if units else ["32-true"])
    limits = Limits("cpu")
    seconds = {name: [2e-9 * limits.size**3 / speed] for name, speed in zip(limits.cases, (100, 400), strict=False)}
    of_float32, of_bfloat16 = "% of a matrix product's 100 GFLOP/s", "% of a bf16 matrix product's 400 GFLOP/s"
    in_float32, in_bfloat16 = (limits.shares(seconds, 80, half=half) for half in (False, True))
    assert in_float32 == {of_float32: "80", **({of_bfloat16: ""} if units else {})}
    assert in_bfloat16 == {of_float32: "", **({of_bfloat16: "20"} if units else {})}
    assert set(limits.shares(seconds, None, half=False).values()) == {""}


@pytest.mark.slow
def test_when_an_accuracy_is_reached_and_when_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without Fashion-MNIST, by runs of one step."""

    def nowhere(**_: object) -> None:
        raise UserError("nowhere to be had")

    monkeypatch.setattr(fit, "_LEVELS", {"cpu": [0.01, 1.0]})
    monkeypatch.setattr(fit, "_LOOKED_AT", {"cpu": 128})
    monkeypatch.setattr(fit, "fetch", nowhere)
    monkeypatch.setattr(fit, "precisions", lambda device: ["32-true"])

    rows = filled("reach", tmp_path, monkeypatch)

    assert [row["images"] for row in rows] == ["32", "not within 32", "128", "not within 128"]
    assert all((float(row["seconds"] or 0) > 0) is (row["accuracy"] == "0.01") for row in rows)
    (table,) = json.loads((tmp_path / "bench.json").read_text())
    assert "data=sample, as Fashion-MNIST isn't on this machine" in table["conditions"]


@pytest.mark.slow
def test_what_two_devices_send_and_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["step"]: row for row in filled("parallel", tmp_path, monkeypatch)}
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
    pixels = Preprocess(source_size=28, image_size=224, enlarged=224, mean=0.0, std=1.0)
    for image, label, ours in zip(images[:4], labels, pixels(images[:4]), strict=False):
        theirs, named = Pictures(image[None], label[None])[0]
        assert named == label
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1.5 / 255)


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            ["lnr"],
            "bench lnr: there is no such measurement: use lrn, step, profile, data, epoch, start, reach, ddp, parallel",
        ),
        (["--device", "gpu"], "--device=gpu: should be auto, cpu or cuda"),
        (["--json", "no/bench.json"], "--json=no/bench.json: not a file in a folder that there is: make no, or name"),
        pytest.param(
            *(["--device", "cuda"], "--device=cuda: this machine has none: use --device cpu"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_a_mistake_is_answered_before_anything_is_measured(typed: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["bench", *typed])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(line)
