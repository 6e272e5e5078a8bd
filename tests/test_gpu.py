"""On a GPU nothing from the loader to the end of a step waits for the device, and CUDA graphs change no number."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins.precision import Precision

import alexnet_lit
from tests.conftest import SMALL, Train

pytestmark = pytest.mark.gpu
SWITCHES = ("crop=0.875", "translate=0.1", "color=0.1", "erase=0.5", "mirror=true", "mixup=0.4", "cutmix=1")


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("switches", [(), SWITCHES], ids=["mirror", "all"])
@pytest.mark.parametrize("home", ["cuda", "cpu"])
def test_a_step_waits_for_nothing(home: str, switches: tuple[str, ...], waiting_is_an_error: None) -> None:
    overrides = [f"data.augment.{switch}" for switch in switches]
    module, data = alexnet_lit.build(alexnet_lit.compose("data=sample", "model.lrn=true", *overrides))
    data.setup("fit")
    module.cuda()
    module._trainer = SimpleNamespace(  # type: ignore[assignment] # all that a step asks of it
        distributed_sampler_kwargs=None, precision_plugin=Precision(), strategy=SimpleNamespace()
    )
    optimizer = module.optimizer(module.net.parameters())
    strategy = SimpleNamespace(root_device=torch.device(home))
    data.trainer = SimpleNamespace(  # type: ignore[assignment] # all that a loader asks of it
        strategy=strategy, distributed_sampler_kwargs=None, testing=False
    )
    loader = data.train_dataloader()
    assert loader.images.device.type == home
    assert data.images["train"][0].device.type == "cpu", "what a person looks at stays where numpy takes it"

    for number, batch in enumerate(islice(loader, 6)):
        if number == 3:  # by then each kernel is compiled and each matrix made
            torch.cuda.set_sync_debug_mode("error")
        parts = {name: getattr(batch, name) for name in ("images", "labels", "random_values")}
        there = batch._replace(**{name: part.cuda(non_blocking=True) for name, part in parts.items()})
        loss = module.training_step(data.on_after_batch_transfer(there, 0), number)
        optimizer.zero_grad()
        loss.backward()
        module.configure_gradient_clipping(optimizer, 1.0, "norm")
        optimizer.step()
    torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
    assert module.take_point()["grad_norm"] > 0


def test_a_run_in_cuda_graphs_learns_what_it_learns_without(train: Train, tmp_path: Path) -> None:
    """With last batches that are smaller, several epochs, a clipped norm, and gradients that are drawn."""
    recipe = ("optimizer=adamw", "model.dropout=0", "trainer.max_epochs=3", "data.batch_size=48")
    there = ("trainer.accelerator=gpu", "trainer.precision=32-true")
    losses = []
    for mode in ("false", "reduce-overhead"):
        outcome = train(*SMALL, *recipe, *there, f"model.compile={mode}", logs=tmp_path / mode)
        assert outcome.status == 0, outcome.err
        losses.append([outcome.result[f"{stage}/loss"] for stage in ("train", "val", "test")])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
