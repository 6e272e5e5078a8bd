"""The package in a person's own program, which may be a Hydra application: nothing of that changes."""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf.basecontainer import BaseContainer

import alexnet_lit
from alexnet_lit.errors import UserError
from alexnet_lit.lit import Classifier
from tests.conftest import REPOSITORY, Train, python

TINY = ("data=sample", "model=lenet", "model.lrn=true", "data.image_size=28", "data.batch_size=8")

APPLICATION = """
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

OmegaConf.register_new_resolver("mode", lambda: "their mode")
OmegaConf.register_new_resolver("home", lambda: "their home")

@hydra.main(version_base="1.2", config_path=".", config_name="theirs")
def main(config):
    import alexnet_lit
    job, loader = HydraConfig.get(), hydra.core.global_hydra.GlobalHydra.instance().hydra
    assert alexnet_lit.compose("model.lrn=true").model.lrn
    assert HydraConfig.get() is job and hydra.version.getbase().minor == 2
    assert hydra.core.global_hydra.GlobalHydra.instance().hydra is loader
    assert hydra.compose("theirs", ["value=2"]).value == 2
    print(config.mode, config.home, config.value)

main()
"""


@pytest.mark.parametrize(
    ("typed", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "")]
)
def test_threads_wait_briefly_unless_told_otherwise(typed: dict[str, str], spins: str) -> None:
    unset = {key: os.environ[key] for key in os.environ.keys() - {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    code = "import os, alexnet_lit; print(os.environ.get('GOMP_SPINCOUNT', ''))"
    assert python("-c", code, cwd=REPOSITORY, env=unset | typed).stdout == f"{spins}\n"


def test_a_hydra_application_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("mode: ${mode:}\nhome: ${home:}\nvalue: 1\n")
    (tmp_path / "program.py").write_text(APPLICATION)
    done = python("program.py", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "their mode their home 1\n")


def state() -> dict[str, Any]:
    """What a program has set, or rests on, beside its own variables."""
    base = Singleton._instances
    root = logging.getLogger()
    numpy_state: Any = np.random.get_state()
    return {
        "hydra": [base.get(GlobalHydra), GlobalHydra.instance().hydra, base.get(HydraConfig)],
        "resolvers": dict(BaseContainer._resolvers),
        "logging": (root.level, list(root.handlers), logging.root.manager.disable),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "process": (dict(os.environ), os.getcwd(), list(sys.argv), list(sys.path)),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.stdout, sys.stderr),
        "threads": set(threading.enumerate()),
        "random": (random.getstate(), numpy_state[1].tobytes(), numpy_state[2:], torch.get_rng_state().tolist()),
        "matplotlib": (matplotlib.get_backend(auto_select=False), matplotlib.rcParams.copy()),
        "torch": (
            *(torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype()),
            *(torch.get_default_device(), torch.get_float32_matmul_precision(), torch.is_grad_enabled()),
            *(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        ),
    }


def use(checkpoint: Path) -> None:
    """What a notebook does. The weights of a net are drawn from torch's generator, as `build` says; nothing else is."""
    config = alexnet_lit.compose(*TINY)
    with torch.random.fork_rng(devices=[]):
        alexnet_lit.build_net(config)
        module, data = alexnet_lit.build(config)
    assert {"build", "build_net", "compose", "fit", "load"} <= set(dir(alexnet_lit)), "which Tab offers"
    for loader in (data.train_dataloader(), data.val_dataloader()):  # which nobody has set up
        assert data.on_after_batch_transfer(next(iter(loader)), 0).images.shape == (8, 1, 28, 28)
    assert alexnet_lit.compose("+experiment=quick") == alexnet_lit.compose("experiment=quick"), "as Hydra adds a group"
    for net in (module, alexnet_lit.load(checkpoint), Classifier.load_from_checkpoint(checkpoint)):
        images = np.zeros((2, 28, 28), np.uint8)
        assert torch.equal(net.predict(images), net.predict(torch.from_numpy(images)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'compose\("seed=1", "data=sample"\)'):  # not as Hydra's own is called
        alexnet_lit.compose(["data=sample"])  # type: ignore[arg-type] # on purpose


def in_a_loop(call: Callable[[], None]) -> None:
    """As a cell of a notebook is run."""

    async def cell() -> None:
        call()

    asyncio.run(cell())


def in_a_thread(call: Callable[[], None]) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(call).result()


@pytest.mark.parametrize("surroundings", [lambda call: call(), in_a_loop, in_a_thread], ids=["main", "loop", "thread"])
def test_nothing_of_the_program_around_changes(
    surroundings: Callable[[Callable[[], None]], None], lenet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GlobalHydra.instance(), "hydra", object())  # stands for what `hydra.initialize` leaves there

    def check() -> None:
        before = state()
        use(lenet)
        after = state()
        for name, value in before.items():
            assert after[name] == value, name

    surroundings(check)


def test_lightnings_way_to_load_is_ours(lenet: Path, tmp_path: Path) -> None:
    file = lenet / "checkpoints" / "best.ckpt"
    ours = alexnet_lit.load(file)
    module = Classifier.load_from_checkpoint(checkpoint_path=str(file), map_location=torch.device("cpu"), strict=True)
    assert (type(module), module.training, module.classes) == (Classifier, False, ours.classes)
    assert module.hparams == ours.hparams
    assert all(map(torch.equal, module.state_dict().values(), ours.state_dict().values()))
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["model"]["compile"] = True
    torch.save(checkpoint, compiled := tmp_path / "compiled.ckpt")
    assert alexnet_lit.load(compiled).net._compiled_call_impl is None, "where there may be no compiler"
    with pytest.raises(TypeError, match="seed"):
        Classifier.load_from_checkpoint(file, seed=1)  # type: ignore[call-arg] # the checkpoint's config builds it


@pytest.mark.slow
def test_fit_trains_as_the_command_does_also_in_a_notebook(train: Train, tmp_path: Path) -> None:
    """Twice in a process, within a running event loop; the run can be continued from the command line."""
    recipe = ("trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.limit_test_batches=1")
    typed = (*TINY, *recipe, "data.train_size=16", "data.val_size=16", "callbacks=none", "logger=none")
    results: list[dict[str, Any]] = []
    for name, surroundings in {"one": in_a_thread, "two": in_a_loop}.items():
        config = alexnet_lit.compose(*typed, f"paths.logs={tmp_path / name}")
        config.name = name
        surroundings(lambda config=config: results.append(alexnet_lit.fit(config)))  # type: ignore[misc] # bound at once

    command = train(*typed, logs=tmp_path / "command")

    folders = [Path(result.pop("folder")) for result in results]
    for result in results:
        assert result.keys() == command.result.keys()
        assert (result["status"], result["steps"]) == ("completed", 2)
        assert result["test/loss"] == command.result["test/loss"]
    folder = folders[1]
    assert [*(tmp_path / "two" / "runs").iterdir()] == [folder]
    assert json.loads((folder / "result.json").read_text()) == results[1]
    assert train(f"ckpt={folder}", "trainer.max_epochs=2", logs=tmp_path / "two").result["steps"] == 4
    longer = alexnet_lit.fit(alexnet_lit.compose(f"ckpt={folder}", "trainer.max_epochs=3"))
    assert (longer["status"], longer["steps"], longer["folder"]) == ("completed", 6, str(folder))
    logs = f"paths.logs={tmp_path / 'two'}"
    assert longer["overrides"] == [*typed, logs, "++name=two", "trainer.max_epochs=2", logs, "trainer.max_epochs=3"]
    assert alexnet_lit.compose(f"ckpt={folder}").trainer.max_epochs == 3
    with pytest.raises(UserError, match=r"is complete: trainer\.max_epochs=\.\.\. beside ckpt= makes it longer"):
        alexnet_lit.fit(alexnet_lit.compose(f"ckpt={folder}"))
    with pytest.raises(UserError, match=r"model\.dropout=2: should be less"):
        alexnet_lit.fit(alexnet_lit.compose(*TINY, "model.dropout=2", f"paths.logs={tmp_path / 'none'}"))
    assert not list((tmp_path / "none" / "runs").iterdir())
