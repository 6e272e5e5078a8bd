from pathlib import Path

import pytest

from alexnet_lit.watch import CSV
from tests.watch.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


def test_a_line_a_value_and_a_resumed_run_appends(tmp_path: Path) -> None:
    for _ in range(2):
        make_trainer(logger=[CSV(run_dir=str(tmp_path / "run"))]).fit(Module(), Data(train=2))
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,tag,value"
    assert lines.count("step,tag,value") == 1
    assert lines.count("1,val/acc,0.75") == 2
    assert [line.split(",")[1] for line in lines[1:6]] == ["train/loss", "train/acc"] * 2 + ["val/acc"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]
