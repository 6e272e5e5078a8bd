"""The page: a picture on the left, what the net makes of it on the right, its first layer below."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from alexnet_lit.data.picture import Broken
from alexnet_lit.tools.demo.sight import first_convolution, look
from alexnet_lit.tools.predict.guess import Guesser

_TOP = 5  # classes that are shown with a bar
_CANVAS = 336  # px of a side, a multiple of 28
_HEIGHT = 440  # px of where a picture is dropped or drawn
_BRUSHES = {"white": "#000000", "black": "#ffffff"}  # for each colour of the canvas

# For Gradio's `launch`.
LOOK: Mapping[str, Any] = {
    "theme": gr.themes.Default(
        primary_hue="sky",
        secondary_hue="sky",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],  # the machine's own, so that no other is asked for them
        font_mono=["ui-monospace", "monospace"],
    ),
    "css": """
        .gradio-container { width: 100%; max-width: 1080px !important; margin: 0 auto !important; }
        footer { display: none !important; }
        #seen img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
    """,
    "footer_links": [],
}
# Events share the net; of strokes that follow each other fast the last counts.
_ONE_BY_ONE: Mapping[str, Any] = {
    "concurrency_id": "net",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}


def page(guesser: Guesser, file: Path) -> gr.Blocks:
    """The page for a net; `file` is its checkpoint."""
    net, classes = guesser.module.net, len(guesser.data.classes)
    blocks: gr.Blocks
    with gr.Blocks(title="alexnet_lit", analytics_enabled=False) as blocks:
        gr.Markdown(f"# What does the net see?\n{type(net).__name__} of `{file}`, {classes} classes")
        with gr.Row():
            with gr.Column():
                dropped, drawn = _questions()
            with gr.Column():
                answers = _answers()
        if (first := first_convolution(net)) is not None:
            things = f"looks for {first.out_channels} things in it: a map of each, the stronger the darker."
            gr.Markdown(f"The **first layer** {things}")
            answers.append(gr.Image(show_label=False, format="png", buttons=[], elem_id="maps"))

    def show(source: str | BytesIO | None) -> list[Any]:
        if source is None:
            return [None] * len(answers)
        try:
            sight = look(guesser, source)
        except Broken as reason:
            return [None, None, f"Not a picture that can be read: {reason}", None][: len(answers)]
        return [sight.probabilities, sight.seen, sight.done, sight.maps][: len(answers)]

    with blocks:
        # Taken as it was sent, without Gradio's own reading of it: the answer is that of `predict`.
        gr.on(
            [dropped.upload, dropped.clear],
            lambda sent: show(sent and sent["path"]),
            dropped,
            answers,
            preprocess=False,
            **_ONE_BY_ONE,
        )
        drawn.input(lambda sketch: show(_strokes(sketch)), drawn, answers, show_progress="hidden", **_ONE_BY_ONE)
    return blocks


def _questions() -> tuple[gr.Image, gr.ImageEditor]:
    """Where a picture is dropped, and where one is drawn."""
    with gr.Tab("A picture"):
        dropped = gr.Image(
            label="Your picture", type="filepath", sources=["upload", "clipboard"], height=_HEIGHT, buttons=[]
        )
    with gr.Tab("A drawing"):
        drawn = gr.Sketchpad(
            **_canvas("white"),
            label="Your drawing",
            type="pil",
            format="png",
            height=_HEIGHT,
            canvas_size=(_CANVAS, _CANVAS),
            fixed_canvas=True,
            layers=False,
            transforms=[],
            buttons=[],
        )
        colour = gr.Radio(list(_BRUSHES), value="white", label="Begin anew on; filled shapes are what works best")
        colour.change(lambda chosen: gr.update(**_canvas(chosen)), colour, drawn, api_visibility="private")
    return dropped, drawn


def _answers() -> list[gr.components.Component]:
    """Classes, the picture as the net sees it, what was done to it."""
    classes = gr.Label(label="What it takes it for", num_top_classes=_TOP)
    with gr.Row():
        seen = gr.Image(show_label=False, format="png", height=180, buttons=[], elem_id="seen")
        done = gr.Textbox(label="As the net sees it", lines=5, interactive=False)
    return [classes, seen, done]


def _canvas(colour: str) -> dict[str, Any]:
    """An empty canvas, and a brush that shows on it, as arguments of Gradio's editor."""
    background = Image.new("RGB", (_CANVAS, _CANVAS), colour)
    brush = gr.Brush(default_size=24, default_color=_BRUSHES[colour], colors=["#000000", "#808080", "#ffffff"])
    return {"value": {"background": background, "layers": [], "composite": None}, "brush": brush}


def _strokes(sketch: Mapping[str, Image.Image | None] | None) -> BytesIO | None:
    """A drawing as a picture in a file; None of an empty canvas."""
    composite = sketch["composite"] if sketch else None
    if composite is None:
        return None
    drawing = composite.convert("RGB")
    if len(drawing.getcolors(2) or "more") == 1:
        return None
    png = BytesIO()
    drawing.save(png, "PNG")
    return BytesIO(png.getvalue())
