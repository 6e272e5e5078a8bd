"""The learning rate over a run, step by step, and the norm of gradients."""

import itertools

import pytest
import torch

import alexnet_lit
from alexnet_lit.lit import Classifier
from alexnet_lit.optim import one_cycle
from alexnet_lit.optim.schedules import total_norm


def rates(total_steps: int, *, steps: int | None = None, warmup: float = 0.1) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = one_cycle(optimizer, total_steps=total_steps, warmup=warmup, start=0.1, end=0.01)
    seen = []
    for _ in range(steps or total_steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_rises_to_the_rate_and_falls_to_the_end_in_straight_lines() -> None:
    seen = rates(20, warmup=0.25)
    rise, fall = seen[:6], seen[5:]
    assert rise[:5] == pytest.approx([2 * (0.1 + 0.9 * n / 5) for n in (1, 2, 3, 4, 5)])
    assert max(seen) == seen[4] == seen[5] == pytest.approx(2.0)
    assert seen[-1] == pytest.approx(0.02)
    steps = [before - after for before, after in itertools.pairwise(fall)]
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize(("total_steps", "warmup"), [(1, 0.1), (2, 0.5), (3, 0.0), (10, 0.1), (11, 1.0)])
def test_runs_of_any_length_stay_between_end_and_rate(total_steps: int, warmup: float) -> None:
    seen = rates(total_steps, steps=2 * total_steps, warmup=warmup)
    assert all(0.02 - 1e-9 <= rate <= 2 + 1e-9 for rate in seen)
    assert max(seen[:total_steps]) == pytest.approx(2.0)


def build(*overrides: str) -> Classifier:
    small = ("data=sample", "data.image_size=65", "data.batch_size=100", "data.val_size=0")
    return alexnet_lit.build(alexnet_lit.compose(*small, *overrides))[0]


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["trainer.max_epochs=3", "trainer.limit_train_batches=0.5", "trainer.accumulate_grad_batches=3"], 12),
        (["trainer.max_epochs=-1", "trainer.max_steps=500"], 500),
    ],
)
def test_the_length_of_a_run_is_known_before_data_is_read(overrides: list[str], steps: int) -> None:
    module = build("scheduler=one_cycle", *overrides)
    optimizer = module.optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = module.schedule.factory(optimizer)
    seen = []
    for _ in range(steps + 5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen[steps - 2] > seen[steps - 1] == seen[steps] == pytest.approx(0.02 * 1e-4)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("constant", "sgd"), ("plateau", "adamw"), ("step", "sgd"), ("one_cycle", "adamw")]
)
def test_every_schedule_lasts_as_long_as_the_run(name: str, optimizer: str) -> None:
    monitored = ["scheduler.monitor=train/loss"] if name == "plateau" else []
    module = build(
        f"scheduler={name}", f"optimizer={optimizer}", "optimizer.lr=0.5", "trainer.max_epochs=5", *monitored
    )
    made = module.optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = module.schedule.factory(made)
    seen = []
    for _ in range(100):
        seen.append(made.param_groups[0]["lr"])
        made.step()
        scheduler.step(1.0) if name == "plateau" else scheduler.step()  # type: ignore[arg-type] # it takes the score

    assert max(seen) == pytest.approx(0.5)
    ends = {"constant": 0.5, "plateau": 0.0, "step": 0.5e-9, "one_cycle": 0.5e-4}
    assert seen[-1] == pytest.approx(ends[name], rel=1e-3, abs=1e-7 if name == "plateau" else 0)


def test_the_norm_of_many_gradients_is_exact() -> None:
    torch.manual_seed(0)
    shapes = [(4096, 2048), (8, 3, 5, 5), (7,)]
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in parameters:
        layout = torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
        parameter.grad = torch.randn(parameter.shape).contiguous(memory_format=layout)
    gradients = [parameter.grad.double() for parameter in parameters if parameter.grad is not None]
    wanted = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    untouched = torch.nn.Parameter(torch.zeros(3))
    assert float(total_norm([*parameters, untouched])) == pytest.approx(wanted, rel=5e-5)  # torch's is off by 2e-4
    parameters[0].grad[5, 5] = float("nan")  # type: ignore[index] # it was set above
    assert total_norm(parameters).isnan()
