"""Fonts for pictures: Latin letters and figures from matplotlib's own, Chinese ones from what the machine has."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import font_manager, rc_context

# By name in matplotlib's list of the machine's fonts, best first; by file where that list is older than the font.
_CJK = (
    *("Noto Sans CJK SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti", "Microsoft YaHei", "SimHei", "Noto Sans SC"),
    *("Noto Sans CJK JP", "Noto Sans CJK TC", "Droid Sans Fallback", "Arial Unicode MS", "AR PL UMing CN"),
)
_FILES = ("notosanscjk", "sourcehansans", "wqy-", "pingfang", "msyh", "simhei", "stheiti", "droidsansfallback", "uming")
_OWN = "DejaVu Sans"  # matplotlib brings it along; it has the minus sign


@functools.cache
def chinese() -> str | None:
    """The family of a font with Chinese characters, None if the machine has none."""
    manager = font_manager.fontManager
    known = {entry.name for entry in manager.ttflist}
    if found := next((name for name in _CJK if name in known), None):
        return found
    for path in map(Path, font_manager.findSystemFonts()):
        if path.name.lower().startswith(_FILES):
            manager.addfont(str(path))
            return str(font_manager.FontProperties(fname=str(path)).get_name())
    return None


def drawable(text: str) -> str:
    """The text with a question mark for each character that no font here has, instead of an empty box."""
    have = _characters()
    return "".join(letter if ord(letter) in have or letter.isspace() else "?" for letter in text)


@contextmanager
def fonts() -> Iterator[None]:
    """Draw in here: for each character the first font that has it; a dollar sign is a dollar sign."""
    chatter = logging.getLogger("matplotlib.font_manager")  # it tells that a font has no bold
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with rc_context({"font.family": [_OWN, *filter(None, [chinese()])], "text.parse_math": False}):
            yield
    finally:
        chatter.setLevel(level)


@functools.cache
def _characters() -> frozenset[int]:
    files = [font_manager.findfont(family) for family in (_OWN, chinese()) if family is not None]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())
