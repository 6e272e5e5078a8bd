"""What must not depend on how many threads torch has."""

from collections.abc import Callable

import torch
from torch import Tensor


def same_with_any(compute: Callable[[], Tensor]) -> bool:
    """Whether one, two and five threads give the same numbers, to the last bit."""
    threads = torch.get_num_threads()
    outcomes = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            outcomes.append(compute())
    finally:
        torch.set_num_threads(threads)
    return all(torch.equal(outcomes[0], other) for other in outcomes[1:])
