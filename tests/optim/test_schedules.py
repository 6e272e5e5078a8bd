"""The learning rate over a run, step by step, and the norm of gradients."""

import itertools

import pytest
import torch

import alexnet_lit
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


@pytest.mark.parametrize(
    ("typed", "steps", "end"),
    [
        ("scheduler=constant", 100, 0.5),
        ("scheduler=plateau scheduler.monitor=train/loss optimizer=adamw", 100, 0.0),
        ("scheduler=step", 100, 0.5e-49),
        ("scheduler=one_cycle optimizer=adamw", 100, 0.5e-4),
        ("trainer.max_epochs=3 trainer.limit_train_batches=0.5 trainer.accumulate_grad_batches=3", 12, 0.5e-4),
        ("trainer.max_epochs=-1 trainer.max_steps=500", 500, 0.5e-4),
    ],
)
def test_every_schedule_lasts_as_long_as_the_run(typed: str, steps: int, end: float) -> None:
    """Whose length is known before data is read."""
    small = ("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=100", "data.val_size=0")
    usual = (*small, "trainer.max_epochs=5", "optimizer.lr=0.5")
    module, _ = alexnet_lit.build(alexnet_lit.compose(*usual, *typed.split()))
    optimizer = module.optimizer([torch.nn.Parameter(torch.zeros(1))])
    scheduler = module.schedule.factory(optimizer)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(1.0) if "plateau" in typed else scheduler.step()  # type: ignore[arg-type] # it takes the score
    assert max(seen) == pytest.approx(0.5)
    assert seen[-1] == pytest.approx(end, rel=1e-3, abs=0 if end else 1e-7)
    assert seen[-2] > seen[-1] or steps == 100


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
    assert float(total_norm([*parameters, untouched])) == pytest.approx(wanted, rel=1e-5)  # torch's is off by 2e-4
    half = torch.nn.Parameter(torch.zeros(3).half())
    half.grad = torch.full_like(half, 300.0)  # 300 squared is beyond float16
    assert float(total_norm([half])) == pytest.approx(300 * 3**0.5)
    parameters[0].grad[5, 5] = float("nan")  # type: ignore[index] # it was set above
    assert total_norm(parameters).isnan()
