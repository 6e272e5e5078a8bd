import io

import pytest
from rich.console import Console

from alexnet_lit.callbacks.line import Line, clock, duration, rate

FACTS = {"loss": "loss 0.512", "acc": "acc 0.811", "val/acc": "val/acc 0.790", "images/s": "84 images/s"}
LINE = Line("epoch 2/10", 0.41, FACTS, "0:12:03 left")


def drawn(line: Line, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with console.capture() as capture:
        console.print(line.drawn(width))
    return capture.get()


def test_plain_has_every_word_and_no_bar() -> None:
    assert LINE.plain() == "epoch 2/10   41%  loss 0.512  acc 0.811  val/acc 0.790  84 images/s  0:12:03 left"
    assert Line("epoch 2").plain() == "epoch 2"


@pytest.mark.parametrize("width", [50, 60, 70, 79, 80, 90, 100, 120, 200])
def test_drawn_is_one_line_whatever_the_width(width: int) -> None:
    text = drawn(LINE, width)
    assert text.count("\n") == 1
    assert len(text.rstrip()) < width
    assert "epoch 2/10  ━━━━" in text
    assert text.rstrip().endswith("0:12:03 left")
    assert ("val/acc 0.790" in text) is (width >= 60)
    assert " 41%" in text


def test_a_wide_terminal_shows_all_and_a_longer_bar() -> None:
    assert drawn(LINE, 160).count("━") > drawn(LINE, 100).count("━") > 4
    assert all(fact in drawn(LINE, 100) for fact in FACTS.values())


def test_where_the_whole_is_unknown_there_is_no_bar() -> None:
    text = drawn(Line("epoch 3", None, FACTS), 120)
    assert "━" not in text
    assert "%" not in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (clock(0), "0:00:00"),
        (clock(723.4), "0:12:03"),
        (clock(3599.6), "1:00:00"),
        (clock(100 * 3600), "100:00:00"),
        (duration(20), "1 min"),
        (duration(59.6 * 60), "1 h"),
        (duration(45 * 60), "45 min"),
        (duration(8 * 3600 + 20 * 60), "8 h 20 min"),
        (duration(76 * 3600), "3 days 4 h"),
        (rate(1234.4), "1,234 images/s"),
        (rate(84.4), "84 images/s"),
        (rate(4.25), "4.2 images/s"),
    ],
)
def test_numbers_read_as_a_person_would_write_them(written: str, expected: str) -> None:
    assert written == expected
