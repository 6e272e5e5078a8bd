"""Chinese characters and minus signs in pictures, on machines with a Chinese font and without."""

import io
import logging
from collections.abc import Iterator

import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alexnet_lit.callbacks import fonts


@pytest.fixture
def no_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has no font but matplotlib's own."""
    monkeypatch.setattr(fonts, "_CJK", ())
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["/usr/share/fonts/other.ttf"])
    fonts.chinese.cache_clear()
    fonts._characters.cache_clear()
    yield
    fonts.chinese.cache_clear()
    fonts._characters.cache_clear()


def draw(text: str) -> bytes:
    """A picture of it. Warnings are errors: matplotlib warns of a character that it has to draw as an empty box."""
    page = io.BytesIO()
    with fonts.fonts():
        figure = Figure(figsize=(3, 1))
        FigureCanvasAgg(figure)
        figure.text(0, 0.5, text, fontweight="bold")
        figure.savefig(page, format="png")
    return page.getvalue()


@pytest.mark.usefixtures("no_font")
def test_without_a_chinese_font_there_are_no_empty_boxes() -> None:
    assert fonts.chinese() is None
    assert fonts.drawable("a 图 \N{MINUS SIGN}1") == "a ? \N{MINUS SIGN}1"
    draw(fonts.drawable("a 图 \N{MINUS SIGN}1 $5"))
    with pytest.raises(UserWarning, match="Glyph"):
        draw("图")


@pytest.mark.skipif(fonts.chinese() is None, reason="this machine has no Chinese font")
def test_with_a_chinese_font_all_is_drawn(caplog: pytest.LogCaptureFixture) -> None:
    text = "暂退法、局部响应归一化 \N{MINUS SIGN}1 $5$"
    assert fonts.drawable(text) == text
    with caplog.at_level(logging.WARNING):
        assert draw(text) != draw("?")
    assert not caplog.records, "that a Chinese font has no bold need not be told"


@pytest.mark.skipif(fonts.chinese() is None, reason="this machine has no Chinese font")
def test_a_font_that_is_newer_than_matplotlibs_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = fonts.chinese()
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [])
    fonts.chinese.cache_clear()
    found = fonts.chinese()
    fonts.chinese.cache_clear()
    monkeypatch.undo()
    assert found == name == fonts.chinese()
