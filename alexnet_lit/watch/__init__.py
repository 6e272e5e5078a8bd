"""What a person looks at: the console and train.log, the progress line, TensorBoard, the curves, and two tables.

Knows torch, Lightning, rich, matplotlib and TensorBoard; nothing of how a run is configured. All but the console is
imported when a name is first asked for: a command that only prints needs neither torch nor matplotlib.
"""

from typing import TYPE_CHECKING

from alexnet_lit.lazy import lazily
from alexnet_lit.watch.console import close_log, console, log, on_stderr, open_log, show

if TYPE_CHECKING:
    from alexnet_lit.watch.board import Board, introduce
    from alexnet_lit.watch.csv_file import CSV
    from alexnet_lit.watch.curves import draw
    from alexnet_lit.watch.finite import Finite
    from alexnet_lit.watch.history import History
    from alexnet_lit.watch.hparams import tell_board
    from alexnet_lit.watch.milestones import Milestones
    from alexnet_lit.watch.picture import Picture
    from alexnet_lit.watch.points import Points
    from alexnet_lit.watch.progress import Progress
    from alexnet_lit.watch.quiet import quiet_libraries
    from alexnet_lit.watch.speed import Speed
    from alexnet_lit.watch.summary import closing, layers
    from alexnet_lit.watch.tensorboard import TensorBoard

__all__ = [
    "CSV",
    "Board",
    "Finite",
    "History",
    "Milestones",
    "Picture",
    "Points",
    "Progress",
    "Speed",
    "TensorBoard",
    "close_log",
    "closing",
    "console",
    "draw",
    "introduce",
    "layers",
    "log",
    "on_stderr",
    "open_log",
    "quiet_libraries",
    "show",
    "tell_board",
]

_HOMES = {
    "CSV": "csv_file",
    "Board": "board",
    "Finite": "finite",
    "History": "history",
    "Milestones": "milestones",
    "Picture": "picture",
    "Points": "points",
    "Progress": "progress",
    "Speed": "speed",
    "TensorBoard": "tensorboard",
    "closing": "summary",
    "draw": "curves",
    "introduce": "board",
    "layers": "summary",
    "quiet_libraries": "quiet",
    "tell_board": "hparams",
}

__getattr__ = lazily(__name__, _HOMES)
