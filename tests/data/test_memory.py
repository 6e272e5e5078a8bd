"""Memory is handed out again when nobody can see it any more, and not before."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from alexnet_lit.data.memory import Memory

SHAPE = (4, 1, 8, 8)


def saved_for_a_gradient(tensor: Tensor) -> object:
    return (tensor * torch.ones(1, requires_grad=True)).grad_fn


HOLDERS: dict[str, Callable[[Tensor], object]] = {
    "the tensor": lambda tensor: tensor,
    "a view": lambda tensor: tensor[1:, 0].mT,
    "an array": lambda tensor: tensor.numpy(),
    "another type": lambda tensor: tensor.view(torch.int32),
    "a graph": saved_for_a_gradient,
    "a storage": lambda tensor: tensor.untyped_storage(),
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_memory_that_somebody_holds_is_not_handed_out(holder: Callable[[Tensor], object]) -> None:
    memory = Memory()
    tensor = memory.empty(SHAPE, torch.float32)
    place = tensor.data_ptr()
    held = holder(tensor)
    del tensor

    others = [memory.empty(SHAPE, torch.float32) for _ in range(3)]
    assert place not in [other.data_ptr() for other in others]

    del held
    assert memory.empty(SHAPE, torch.float32).data_ptr() == place


def test_smaller_and_other_tensors_fit_in() -> None:
    memory = Memory()
    place = memory.empty(SHAPE, torch.float64).data_ptr()
    for shape, dtype in ((SHAPE, torch.float32), ((3, 1, 8, 8), torch.float64), (SHAPE, torch.float64)):
        tensor = memory.empty(shape, dtype)
        assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (shape, dtype, True)
        assert tensor.data_ptr() == place
        del tensor


def test_larger_ones_take_the_place_of_smaller_ones() -> None:
    memory = Memory()
    memory.empty((1, 1), torch.float32)
    large = memory.empty(SHAPE, torch.float32).fill_(1)
    assert large.sum() == 256


def test_what_is_very_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.data.memory._LARGEST", 1000)
    memory = Memory()
    memory.empty(SHAPE, torch.float32)
    assert not memory._free
    memory.empty((2, 1, 8, 8), torch.float32)
    assert [block.nbytes for block in memory._free] == [512]
