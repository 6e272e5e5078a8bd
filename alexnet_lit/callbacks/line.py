"""One line that says where a run stands: on a terminal with a bar in it, elsewhere as plain text."""

from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_BAR = (10, 40)  # columns: least and most
_DISPENSABLE = ("acc", "images/s", "loss", "val/acc", "test/acc")  # what a narrow terminal does without, in this order


@dataclass(frozen=True)
class Line:
    """`facts` are ready to print, by name: {"loss": "loss 0.512", "images/s": "84 images/s"}."""

    where: str
    fraction: float | None = None
    facts: dict[str, str] = field(default_factory=dict)
    time: str = ""

    def plain(self) -> str:
        """Without the bar, in one piece."""
        return "  ".join(part for part in (self.where, self._percent(), *self.facts.values(), self.time) if part)

    def drawn(self, width: int) -> RenderableType:
        """With a bar of the width that the words leave; on a narrow terminal fewer facts."""
        facts = dict(self.facts)
        least = _BAR[0] if self.fraction is not None else 0
        for name in _DISPENSABLE:
            if self._words(facts) + least < width:
                break
            facts.pop(name, None)
        line = Table.grid(padding=(0, 2, 0, 0))
        cells: list[RenderableType] = [Text(self.where, style="bold")]
        if self.fraction is not None:
            room = min(max(width - 1 - self._words(facts), _BAR[0]), _BAR[1])
            bar = ProgressBar(100, 100 * self.fraction, width=room, complete_style="cyan", finished_style="cyan")
            cells += [bar, Text(self._percent())]
        cells += [*(Text(fact) for fact in facts.values()), Text(self.time, style="dim")]
        for _ in cells:
            line.add_column(no_wrap=True)
        line.add_row(*cells)
        return line

    def _percent(self) -> str:
        return "" if self.fraction is None else f"{int(100 * self.fraction):3d}%"

    def _words(self, facts: dict[str, str]) -> int:
        return sum(cell_len(word) + 2 for word in (self.where, self._percent(), *facts.values(), self.time))


def clock(seconds: float) -> str:
    """Write seconds as 0:12:03."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"


def duration(seconds: float) -> str:
    """Write seconds as a person would say them: 8 h 20 min."""
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def rate(images_per_second: float) -> str:
    """Write 1,234 images/s; a slow one keeps a decimal."""
    return f"{images_per_second:,.{0 if images_per_second >= 10 else 1}f} images/s"
