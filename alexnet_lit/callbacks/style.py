"""The look of every picture: one calm style, with a colour a stage."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, GREY, GRID = "#262626", "#8c8c8c", "#e6e6e6"
# Blue and vermilion of Okabe and Ito (2008) differ for every kind of colour vision, and in lightness.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLOURS = {"train": BLUE, "val": VERMILION, "test": "#404040"}
NAMES = {"train": "training", "val": "validation", "test": "test"}


def blank(width: float, height: float, *, dpi: int) -> Figure:
    """A white figure of so many inches, drawn without a window. Its axes make room for what stands beside them."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure
