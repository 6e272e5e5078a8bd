"""Hydra's own options, which show something and run nothing, and its completion in a shell."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alexnet_lit.app import main
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """`--info` sets up logging anew, at the level of Hydra's own notes."""
    level, handlers = logging.root.level, list(logging.root.handlers)
    yield
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["--cfg", "hydra", "--resolve"], "dir: {logs}{sep}runs{sep}"),
        (["--cfg", "all", "--resolve"], "dir: {logs}{sep}sweeps{sep}"),
        (["--cfg=job", "--resolve", "name=mine"], "logs: {logs}\n"),
        (["--info", "config"], "Config search path"),
        (["--shell-completion", "install=bash"], "complete "),
    ],
)
def test_an_option_shows_what_hydra_shows_and_leaves_nothing(
    typed: list[str], shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "logs"
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "train.py"), *typed, f"paths.logs={logs}"])

    try:
        status = main()
    except SystemExit as ended:  # Hydra's helps end so
        status = int(ended.code or 0)

    out, err = capfd.readouterr()
    assert (status, err) == (0, "")
    assert shown.format(logs=logs, sep=os.sep) in out
    assert not logs.exists()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("model=", "model=alexnet model=alexnet_2012 model=alexnet_owt model=alexnet_wide_lrn model=lenet"),
        ("-m seed=0,1 optimizer=adamw optimizer.", "optimizer._partial_= optimizer._target_= optimizer.betas."),
    ],
)
def test_completion_knows_groups_choices_and_keys(
    typed: str, offered: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "train.py"), "-sc", "query=bash"])
    monkeypatch.setenv("COMP_LINE", f"python train.py {typed}")
    assert main() == 0
    assert capfd.readouterr().out.startswith(offered)
