from pathlib import Path

import pytest

from alexnet_lit.callbacks.csv_file import CSV
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

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


def test_a_resumed_run_measures_again_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    logger = CSV(run_dir=str(tmp_path))
    logger.rewind(3)
    assert not logger.path.exists()
    for step in (1, 2, 3, 10):
        logger.log_metrics({"loss": 0.5}, step)
    with logger.path.open("a") as file:
        file.write("2,lo")  # cut short by a kill

    logger.rewind(3)
    logger.log_metrics({"loss": 0.25}, 3)

    assert logger.path.read_text().splitlines() == ["step,tag,value", "1,loss,0.5", "2,loss,0.5", "3,loss,0.25"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
