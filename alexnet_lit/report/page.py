"""The report as one HTML file: style and pictures are inside, and it asks no other machine for anything."""

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from alexnet_lit.report.content import Content
from alexnet_lit.report.panels import COLOURS
from alexnet_lit.report.picture import Picture
from alexnet_lit.report.section import label_of
from alexnet_lit.report.words import Words

MARK = "alexnet_lit report"  # how a report is told from what a person wrote


def html(content: Content, picture: Picture, language: str, text: Words) -> str:
    """The page. What comes from folders' names and overrides is text in it, whatever it looks like."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    )
    return page.render(
        content=content,
        picture=picture,
        panels=picture.svgs(),
        legend=[(picture.colour(n), label_of(picture.study.experiments[n], text)) for n in picture.chosen],
        colours=COLOURS,
        language={"zh": "zh-Hans"}.get(language, language),
        asked=text("asked"),
        mark=MARK,
    )
