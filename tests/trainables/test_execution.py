"""How a process is set up for a loop."""

import platform
import resource

import pytest
import torch

from trainables.loop.settings import Execution


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
def test_memory_that_was_freed_is_not_faulted_in_again() -> None:
    Execution().prepare()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    assert faults() < (64 << 20) // 4096, "the pages of one of the four"
