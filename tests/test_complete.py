"""TAB behind `python train.py` and `alexnet-lit`: in a real bash, and without torch."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alexnet_lit.complete import overrides

from tests.conftest import REPOSITORY

BASH = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")]
FOR_TRAIN = 'eval "$(python train.py -sc install=bash)"'
FOR_VERBS = 'eval "$(_ALEXNET_LIT_COMPLETE=source_bash alexnet-lit)"'  # what --install-completion writes down


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("model=", "model=alexnet model=alexnet_2012 model=alexnet_owt model=lenet"),
        ("-m seed=0,1 optimizer=adamw optimizer.", "optimizer._partial_= optimizer._target_= optimizer.betas."),
        ("hydra/launcher=b", "hydra/launcher=basic"),
    ],
)
def test_hydra_knows_groups_choices_and_keys_without_torch(typed: str, offered: str) -> None:
    line = f"python train.py {typed}"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "train.py", "-sc", "query=bash"],
        cwd=REPOSITORY,
        env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(offered)
    assert {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & {"torch", "lightning"} == set()


@pytest.mark.parametrize(
    ("words", "incomplete", "offered"),
    [
        (["model", "=", "alexnet_o"], "alexnet_o", ["alexnet_owt"]),  # "=" divides words in bash ...
        (["model", "="], "", ["alexnet", "alexnet_2012", "alexnet_owt", "lenet"]),
        (["data", "=", "sample", "model", "=", "le"], "le", ["lenet"]),
        (["model=le"], "model=le", ["model=lenet"]),  # ... unless Hydra's completion is there too
        (["model.dropo"], "model.dropo", ["model.dropout=", "model.dropout=0.5"]),
        (["ckp"], "ckp", ["ckpt=", "ckpt=null"]),
        (["no/such", "model.dropo"], "model.dropo", []),
    ],
)
def test_a_verb_asks_hydra(
    words: list[str], incomplete: str, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["alexnet-lit", "train", *words]
    monkeypatch.setenv("COMP_WORDS", "\n".join([*line, "later"]))
    monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
    monkeypatch.setenv("COMP_LINE", "")
    assert overrides(incomplete) == offered
    if "=" not in words:  # zsh and fish hand over the line
        monkeypatch.delenv("COMP_WORDS")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(line))
        assert overrides(incomplete) == offered


@contextmanager
def bash(scratch: Path, cwd: Path, setup: str) -> Iterator[int]:
    """A terminal with bash in it, its end for us, where `python` and `alexnet-lit` are this checkout's."""
    (scratch / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (scratch / "alexnet-lit").write_text(f"#!{sys.executable}\nfrom alexnet_lit.__main__ import main\n\nmain()\n")
    for file in ("python", "alexnet-lit"):
        (scratch / file).chmod(0o755)
    path = f"{scratch}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), "PS1": "$ ", "TERM": "dumb", "HOME": str(scratch)}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--norc", "-i"], cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        os.write(ours, f"{setup}; echo rea''dy\n".encode())
        read(ours, "\nready\r\n$ ")
        yield ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read(terminal: int, until: str) -> str:
    """What the terminal shows, up to `until`; bells don't count."""
    shown, deadline = "", time.monotonic() + 60
    while until not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 1000).decode(errors="replace").replace("\a", "")
    return shown


@pytest.mark.parametrize(
    ("setup", "typed", "shown"),
    [
        pytest.param(FOR_TRAIN, "python train.py model=alexnet_o", "model=alexnet_owt", marks=BASH),
        pytest.param(FOR_VERBS, "alexnet-lit summary model=alexnet_o", "model=alexnet_owt ", marks=BASH),
        pytest.param(FOR_VERBS, "alexnet-lit eval", "alexnet-lit evaluate ", marks=BASH),
        pytest.param(f"{FOR_TRAIN}; {FOR_VERBS}", "alexnet-lit train model.dropo", "model.dropout=", marks=BASH),
    ],
)
def test_tab_completes_in_bash(setup: str, typed: str, shown: str, tmp_path: Path) -> None:
    with bash(tmp_path, REPOSITORY, setup) as terminal:
        os.write(terminal, f"{typed}\t".encode())
        read(terminal, shown)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_tab_runs_no_other_program(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("open('ran', 'w').close()\n")
    setup = FOR_TRAIN.replace("train.py", str(REPOSITORY / "train.py"))
    with bash(tmp_path, tmp_path, setup) as terminal:
        os.write(terminal, b"python other.py m\t")
        os.write(terminal, b"\x15echo do''ne\n")  # ^U: on an empty line
        read(terminal, "\ndone")
    assert not (tmp_path / "ran").exists()
