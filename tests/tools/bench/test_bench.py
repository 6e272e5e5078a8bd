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
from alexnet_lit.data import Preprocess
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.errors import UserError
from alexnet_lit.tools.bench import BENCHES, Bench, measure, reach
from alexnet_lit.tools.bench.data import Pictures, seconds_a_batch
from alexnet_lit.tools.bench.limits import Limits
from alexnet_lit.tools.bench.step import GFLOP
from alexnet_lit.tools.bench.timing import Report, alternate, ratios, spread


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


@pytest.mark.slow
def test_the_arithmetic_of_a_training_image() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model.dropout=0"))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 224, 224)).sum().backward()
    assert pytest.approx(counter.get_total_flops() / 1e9, rel=1e-6) == GFLOP


def test_a_single_value_has_no_range() -> None:
    assert spread([2.0]) == "2.00"


def test_each_measurement_is_told_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Report("Title", "A machine.", [{"case": "one"}])
    parts = {"slow": Bench(lambda **_: table, "one thing", steps=34, seconds=0, once=0, on_gpu=0)}
    parts["short"] = Bench(lambda **_: table, "another", steps=0, seconds=10, once=0, on_gpu=0)
    monkeypatch.setattr("alexnet_lit.tools.bench.BENCHES", parts)
    clock = iter([0.0, 64.0])  # the first took half the time that was thought
    monkeypatch.setattr("alexnet_lit.tools.bench.time.monotonic", lambda: next(clock))
    told: list[str] = []

    assert list(measure(None, batch=32, repeats=3, device="cpu", say=told.append)) == [table, table]

    assert told == ["1 of 2  slow: one thing; about 3 min left", "2 of 2  short: another; about 20 s left"]


def test_all_of_it_is_thought_to_take_less_than_twelve_minutes_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Report("Title", "A machine.", [{"case": "one"}])
    monkeypatch.setitem(BENCHES, "lrn", BENCHES["lrn"]._replace(run=lambda **_: table))
    monkeypatch.setattr(
        "alexnet_lit.tools.bench.has_bf16", lambda device: False
    )  # which is more to measure, on newer ones
    told: list[str] = []
    next(measure(None, batch=None, repeats=3, device="cpu", say=told.append))
    assert 5 <= int(told[0].rpartition("about ")[2].split()[0]) < 12


def filled(name: str, folder: Path) -> list[dict[str, str]]:
    """Rows of the table that a measurement prints."""
    file = folder / "bench.json"
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
def test_every_measurement_fills_its_table(name: str, tmp_path: Path) -> None:
    filled(name, tmp_path)


@pytest.mark.slow
def test_a_cpu_with_instructions_for_bfloat16_is_measured_in_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet_lit.tools.bench.limits.bf16_units", lambda: "AVX512-BF16")
    assert {row["precision"] for row in filled("profile", tmp_path)} == {"float32", "bf16-mixed"}
    limits = Limits("cpu")
    assert len(limits.cases) == 2
    seconds = {name: [2e-9 * limits.size**3 / speed] for name, speed in zip(limits.cases, (100, 400), strict=True)}
    of_float32, of_bfloat16 = "% of a matrix product's 100 GFLOP/s", "% of a bf16 matrix product's 400 GFLOP/s"
    assert limits.shares(seconds, 80, half=False) == {of_float32: "80", of_bfloat16: ""}
    assert limits.shares(seconds, 80, half=True) == {of_float32: "", of_bfloat16: "20"}
    monkeypatch.setattr("alexnet_lit.tools.bench.limits.bf16_units", lambda: "")
    assert list(Limits("cpu").shares(seconds, None, half=False)) == [of_float32]


@pytest.mark.slow
def test_when_an_accuracy_is_reached_and_when_it_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without Fashion-MNIST, by runs of one step."""
    monkeypatch.setattr(reach, "_LEVELS", {"cpu": [0.01, 1.0]})
    monkeypatch.setattr(reach, "_LOOKED_AT", {"cpu": 128})
    monkeypatch.setattr(reach, "fetch", _nowhere)
    monkeypatch.setattr(reach, "precisions", lambda device: ["32-true"])

    rows = filled("reach", tmp_path)

    assert [row["images"] for row in rows] == ["32", "not within 32", "128", "not within 128"]
    assert all((float(row["seconds"] or 0) > 0) is (row["accuracy"] == "0.01") for row in rows)
    (table,) = json.loads((tmp_path / "bench.json").read_text())
    assert "data=sample, as Fashion-MNIST isn't on this machine" in table["conditions"]


def _nowhere(**_: object) -> None:
    raise UserError("nowhere to be had")


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


def test_a_file_that_can_t_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "bench.json"
    done = CliRunner().invoke(app, ["bench", "--json", str(file)])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"--json={file}: not a file in a folder that there is: make {file.parent}")


def test_the_course_s_loader_gives_what_this_pipeline_gives() -> None:
    """Up to PIL, which rounds to whole values."""
    images, labels = load_sample().test
    pixels = Preprocess(source_size=28, image_size=224, enlarged=224, mean=0.0, std=1.0)
    for image, label, ours in zip(images[:4], labels, pixels(images[:4]), strict=False):
        theirs, named = Pictures(image[None], label[None])[0]
        assert named == label
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1.5 / 255)


@pytest.mark.slow
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
            "bench lnr: there is no such measurement: use lrn, step, profile, data, epoch, start, reach, ddp",
        ),
        (None, "gpu", "--device=gpu: should be auto, cpu or cuda"),
        pytest.param(
            *(None, "cuda", "--device=cuda: this machine has none: use --device cpu"),
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_what_there_is_not(names: list[str] | None, device: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        next(measure(names, batch=1, repeats=1, device=device, say=print))
