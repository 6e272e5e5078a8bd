"""What the report says, in both languages: words.toml has the texts side by side."""

import tomllib
from collections.abc import Callable
from pathlib import Path

LANGUAGES = ("en", "zh")
Words = Callable[..., str]


def words(language: str) -> Words:
    """What gives a text of the language, by its key, with its blanks filled in."""
    texts = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))

    def text(key: str, **blanks: object) -> str:
        return str(texts[key][language]).format(**blanks)

    return text
