"""Draw a run's curves.png when it ends, however it ends, and carry its points over a resume."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from alexnet_lit.watch.history import History


class Picture(Callback):
    """Keeps a run's history in its checkpoints and draws it to `path`."""

    def __init__(self, history: History, *, path: Path, title: str) -> None:
        self.history = history
        self.path = path
        self.title = title

    def draw(self) -> None:
        """Draw what was measured so far."""
        from alexnet_lit.watch.curves import draw  # matplotlib takes a second to import: only when there is a picture

        draw(self.history.points, self.path, self.title)

    def state_dict(self) -> dict[str, Any]:
        """The points, as plain lists."""
        return {"points": self.history.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the curves where the saved run was."""
        self.history.load_state_dict(state_dict["points"])
