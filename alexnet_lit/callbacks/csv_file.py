"""A run's curves as a file for spreadsheets and pandas: `logger=csv`."""

import csv
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from alexnet_lit.callbacks.history import ScalarLogger
from alexnet_lit.errors import writing


class CSV(ScalarLogger):
    """Appends to metrics.csv in the run folder, a line a value: step, tag, value.

    Lightning's own CSVLogger rewrites the whole file at each save, and deletes it when a run is resumed.
    """

    def __init__(self, *, run_dir: str) -> None:
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append the values, all but the "epoch" that Lightning adds to them."""
        with writing(self.path):
            self._append(metrics, step or 0)

    def _append(self, metrics: Mapping[str, float], step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            if file.tell() == 0:
                rows.writerow(("step", "tag", "value"))
            rows.writerows((step, tag, float(value)) for tag, value in metrics.items() if tag != "epoch")

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Take out the lines from that step on, and a last one that a kill cut short."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        part = self.path.with_name(f"{self.path.name}.part")
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.partition(",")[0]) < step]
        part.write_text("".join(lines[:1] + kept), encoding="utf-8", newline="")
        part.replace(self.path)
