import pytest

from alexnet_lit.callbacks.count import Count


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that `time.monotonic` says, to be changed."""
    now = [0.0]
    monkeypatch.setattr("alexnet_lit.callbacks.count.time.monotonic", lambda: now[0])
    return now


def test_off_a_terminal_there_is_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Count("pictures", 50_000, silent=False) as count:
        for second in range(70):
            clock[0] = second
            count.add(50)
    out, err = capsys.readouterr()
    lines = "pictures: 1,550 of 50,000, about 16 min left\npictures: 3,050 of 50,000, about 15 min left\n"
    assert (out, err) == ("", lines)


def test_silent_there_is_what_must_be_said(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Count("pictures", 5000, silent=True) as count:
        clock[0] = 100
        count.add(50)
        count.say("[bold] is no picture")
    assert capsys.readouterr() == ("", "[bold] is no picture\n")
