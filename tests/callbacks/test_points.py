import pytest

from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.points import Points
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


class Telling(Module):
    def take_point(self) -> dict[str, float]:
        return {"train/loss": 1.0, "lr": 0.1}


@pytest.mark.parametrize(("gathered", "steps"), [(1, [3, 5, 6, 9, 10]), (2, [3, 6])])
def test_steps_have_points_and_batches_whose_gradients_are_only_added_up_have_none(
    gathered: int, steps: list[int]
) -> None:
    history = History()
    options = {"accumulate_grad_batches": gathered, "max_epochs": 2}
    make_trainer(logger=[history], callbacks=[Points(every=3)], **options).fit(Telling(), Data(train=5))
    assert [step for step, _ in history.points["lr"]] == steps
