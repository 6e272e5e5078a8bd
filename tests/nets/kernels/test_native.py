"""What torch leaves to do on a machine."""

import platform
from pathlib import Path

import pytest
import torch

import alexnet_lit
from alexnet_lit.prepare import prepare


def pages() -> int:
    """How many the system clears and hands out while 64 MB are written."""
    import resource  # which Windows lacks

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**24).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_a_run_on_a_cpu_gets_memory_again_that_it_freed(tmp_path: Path) -> None:
    prepare(alexnet_lit.compose("data=sample", "model=lenet", "trainer.accelerator=cpu"), tmp_path)
    assert min(pages() for _ in range(20)) < 100  # of 16,384
