"""`python -m alexnet_lit demo`: a page in the browser on which a picture is dropped or drawn for a net."""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import getproxies

from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.utils import make_grid

from alexnet_lit.data.picture import Broken
from alexnet_lit.errors import UserError
from alexnet_lit.terminal import hangup
from alexnet_lit.tools.predict import Predictor

if TYPE_CHECKING:
    import gradio as gr

_HOST = "127.0.0.1"
_CANVAS = 336  # px of a side, a multiple of 28
_HEIGHT = 440  # px of where a picture is dropped or drawn
_COLUMNS, _WIDTH = 16, 960  # maximum feature maps in a row; width of all in px
_WEAK, _HALF, _STRONG = "#eef2f5", "#56b4e9", "#00344f"
_MIDPOINT = 100  # value of 0..255 that is drawn in _HALF; most are weak
_CSS = """
    .gradio-container { width: 100%; max-width: 1080px !important; margin: 0 auto !important; }
    footer { display: none !important; }
    #seen img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
"""


def demo(ckpt: Path, *, device: str) -> None:
    """Serve the page for the net of `ckpt` on this machine alone, until Ctrl-C, SIGTERM or SIGHUP ends the process.

    Dropped pictures are kept in a temporary folder meanwhile. Raises: UserError.
    """
    if find_spec("gradio") is None:
        raise UserError('demo: needs gradio: pip install "alexnet-lit[demo]"')
    predictor = Predictor(ckpt, device=device)
    for number in (signal.SIGINT, signal.SIGTERM, *hangup()):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="alexnet_lit_demo_") as scratch:
        # Gradio reads these when it is imported; its check that it answers must not go through a proxy.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": scratch}
        os.environ["no_proxy"] = f"{getproxies().get('no', '')},{_HOST}"
        import gradio as gr

        blocks = build_page(predictor, ckpt)
        # Fonts of the machine, so that the page asks no other for them.
        fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
        theme = gr.themes.Default(primary_hue="sky", secondary_hue="sky", neutral_hue="slate", **fonts)
        # Off whatever the environment says.
        options: dict[str, Any] = dict.fromkeys(("share", "run_history", "ssr_mode", "mcp_server"), False)
        options |= {"theme": theme, "css": _CSS, "footer_links": [], "quiet": True, "num_workers": 0}
        blocks.launch(server_name=_HOST, prevent_thread_lock=True, **options)
        # A page that is closed while it sends a picture is no error.
        logging.getLogger("uvicorn.error").addFilter(lambda record: "ClientDisconnect" not in repr(record.exc_info))
        try:
            print(f"http://{_HOST}:{blocks.server_port} shows {ckpt}; Ctrl-C ends it", flush=True)
            while True:  # on Windows Ctrl-C ends no wait without an end
                time.sleep(1)
        finally:
            blocks.close(verbose=False)


def build_page(predictor: Predictor, file: Path) -> "gr.Blocks":
    """A picture on the left, its classes and the net's input on the right, maps of the first convolution below."""
    import gradio as gr

    net, classes = predictor.module.net, len(predictor.data.classes)
    size: dict[str, Any] = {"height": _HEIGHT, "buttons": []}
    canvas: Any = {"background": Image.new("RGB", (_CANVAS, _CANVAS), "white"), "layers": [], "composite": None}
    blocks: gr.Blocks
    with gr.Blocks(title="alexnet_lit", analytics_enabled=False) as blocks:
        gr.Markdown(f"# What does the net see?\n{type(net).__name__} of `{file}`, {classes} classes")
        with gr.Row():
            with gr.Column():
                with gr.Tab("A picture"):
                    dropped = gr.Image(label="Your picture", type="filepath", sources=["upload", "clipboard"], **size)
                with gr.Tab("A drawing"):
                    drawn = gr.Sketchpad(
                        value=canvas,
                        brush=gr.Brush(default_size=24, default_color="#000000", colors=["#000000", "#808080"]),
                        label="Your drawing (filled shapes work best)",
                        type="pil",
                        format="png",
                        canvas_size=(_CANVAS, _CANVAS),
                        fixed_canvas=True,
                        layers=False,
                        transforms=[],
                        **size,
                    )
            with gr.Column():
                outputs: list[Any] = [gr.Label(label="Predicted classes", num_top_classes=5)]
                with gr.Row():
                    outputs.append(gr.Image(show_label=False, format="png", height=180, buttons=[], elem_id="seen"))
                    outputs.append(gr.Textbox(label="As the net sees it", lines=5, interactive=False))
        first = _first_convolution(net)
        maps = f"{first and first.out_channels} feature maps, darker where the activation is stronger."
        gr.Markdown(f"The **first layer**: {maps}", visible=first is not None)
        outputs.append(gr.Image(show_label=False, format="png", buttons=[], elem_id="maps", visible=first is not None))

        def show(source: str | BytesIO | None) -> Sequence[Any]:
            try:
                return [None] * 4 if source is None else explain(predictor, source)
            except Broken as reason:
                return [None, None, f"Not a picture that can be read: {reason}", None]

        # Events share the net; of strokes that follow each other fast the last counts.
        events: dict[str, Any] = {"concurrency_id": "net", "trigger_mode": "always_last", "api_visibility": "private"}
        # Taken as it was sent, without Gradio's own reading of it: the answer is that of `predict`.
        changed, as_sent = [dropped.upload, dropped.clear], {**events, "preprocess": False}
        gr.on(changed, lambda sent: show(sent and sent["path"]), dropped, outputs, **as_sent)
        drawn.input(lambda sketch: show(_drawing(sketch)), drawn, outputs, show_progress="hidden", **events)
    return blocks


class Explanation(NamedTuple):
    """What the page shows of a picture, in its order."""

    probabilities: dict[str, float]  # of all classes by name, the likeliest first
    seen: Image.Image  # what goes into the net, "L" or "RGB"
    steps: str  # the preprocessing, in words
    maps: Image.Image | None  # see `grid`; None where the net has no convolution


def explain(predictor: Predictor, source: str | BytesIO) -> Explanation:
    """Classify a picture, and keep the activations of the first convolution. Raises: Broken."""
    picture = predictor.read(source)
    maps: list[Tensor] = []  # copies, as what comes next may be in place
    first = _first_convolution(predictor.module.net)
    hook = first and first.register_forward_hook(lambda _, __, output: maps.append(output[0].float().clone()))
    probabilities = predictor.probabilities([picture])[0]
    if hook is not None:
        hook.remove()
    ranked = dict(predictor.ranked(probabilities, len(probabilities)))
    return Explanation(ranked, picture.image, picture.steps, grid(maps[0].relu()) if maps else None)


def grid(maps: Tensor) -> Image.Image:
    """Maps (N, H, W) side by side, 16 in a row at most, 960 px all together, on one scale: the stronger, the darker."""
    columns = min(_COLUMNS, len(maps))
    side = _WIDTH // columns - 2
    maps = nn.functional.interpolate(maps[:, None], size=side, mode="bilinear")  # (N, 1, side, side)
    grey = Image.fromarray((255 * make_grid(maps, nrow=columns, normalize=True)[0]).round().byte().cpu().numpy())
    return ImageOps.colorize(grey, _WEAK, _STRONG, _HALF, midpoint=_MIDPOINT)


def _first_convolution(net: Any) -> Any:
    return next((layer for layer in net.modules() if isinstance(layer, nn.Conv2d)), None)


def _drawing(sketch: Mapping[str, Image.Image | None] | None) -> BytesIO | None:
    """A drawing as a picture in a file; None of an empty canvas."""
    composite = sketch["composite"] if sketch else None
    if composite is None or len(composite.convert("RGB").getcolors(2) or "more") == 1:
        return None
    png = BytesIO()
    composite.convert("RGB").save(png, "PNG")
    return png
