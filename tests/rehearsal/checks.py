"""The null card itself, and what it is to show of the product (``pytest tests/rehearsal/checks.py`` over it)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from rehearsal import counters
from trainables.loop.settings import GIB, Execution

MIB = 1 << 20


def bytes_on_card(size: float) -> torch.Tensor:
    """An allocation of so many bytes."""
    return torch.empty(int(size), dtype=torch.uint8, device="cuda")


def test_a_process_keeps_to_the_memory_it_is_given() -> None:
    Execution(memory_gib=1.0).prepare()
    try:
        bytes_on_card(0.9 * GIB)
        torch.cuda.empty_cache()
        with pytest.raises(torch.OutOfMemoryError):
            bytes_on_card(1.1 * GIB)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_processes_share_the_memory_of_a_card() -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import torch; x = torch.empty(3 << 30, dtype=torch.uint8, device='cuda'); input()"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdin
    try:
        while torch.cuda.mem_get_info()[0] > 3 * GIB:
            assert other.poll() is None
        with pytest.raises(torch.OutOfMemoryError):
            bytes_on_card(3 * GIB)
    finally:
        other.kill()
        other.wait()
    bytes_on_card(3 * GIB)
    torch.cuda.empty_cache()


def test_a_cast_is_told_from_other_launches() -> None:
    x, half = torch.ones(8, 8, device="cuda"), torch.ones(8, 8, device="cuda", dtype=torch.float16)
    for work, casts in (
        (lambda: (x.half(), x.bfloat16(), half.float(), half.double(), x.t().double()), 5),
        (lambda: torch._foreach_copy_([half, half], [x, x]), 1),
        (lambda: (x + 1, x.t().contiguous(), x.clone(), torch._foreach_copy_([x], [x + 1])), 0),
    ):
        counters.reset_kernels()
        work()
        assert counters.casts(counters.kernels()) == casts


def test_every_wait_is_counted_with_its_line() -> None:
    x = torch.ones(4, device="cuda")
    event = torch.cuda.Event()
    event.record()
    before = counters.total()
    with counters.waiting_lines() as lines:
        x.cpu()
        torch.ones(4).cuda()
        torch.ones(4).pin_memory().to("cuda", non_blocking=True)
        event.synchronize()
        torch.cuda.synchronize()
    counted = counters.total() - before
    assert {name: counted[name] for name in counters.WAITS if counted[name]} == {
        "stream_waits": 2,
        "event_waits": 1,
        "device_waits": 1,
    }
    assert (counted["to_card"], counted["from_card"], counted["pageable"]) == (2, 1, 2)
    assert sorted(line.split(":")[0] for line in lines) == ["rehearsal/checks.py"] * 4


# ---- Captures


def captured(work: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A graph of some work, after a first time outside of it."""
    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


def test_a_graph_is_one_launch_and_draws_anew_each_time() -> None:
    x = torch.zeros(8, 8, device="cuda")
    graph = captured(lambda: torch.nn.functional.dropout(x @ x + torch.randn_like(x)).sum())
    before = counters.total()
    graph.replay()
    counted = counters.total() - before
    assert (counted["graph_launches"], counted["graph_kernels"]) == (1, 5)
    assert counted["launches"] == 2, "the seed and the offset of the generator"


def test_two_streams_can_be_captured_together_and_have_to_join() -> None:
    x, side = torch.zeros(8, device="cuda"), torch.cuda.Stream()

    def forked(joins: bool) -> None:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x.add_(1)
        if joins:
            torch.cuda.current_stream().wait_stream(side)

    captured(lambda: forked(True))
    with pytest.raises(torch.AcceleratorError, match="unjoined"):
        captured(lambda: forked(False))


FORBIDDEN: dict[str, Callable[[torch.Tensor], object]] = {
    "a number that is read": lambda x: x.sum().item(),
    "a copy to the host": lambda x: x.cpu(),
    "a copy from pageable memory": lambda x: torch.ones(8).to("cuda", non_blocking=True),
    "a mask": lambda x: x[x > 0],
    "a wait for the stream": lambda x: torch.cuda.current_stream().synchronize(),
    "a wait for the card": lambda x: torch.cuda.synchronize(),
    "a wait for an event": lambda x: recorded().synchronize(),
    "a wait by a stream for what came before": lambda x: torch.cuda.current_stream().wait_event(BEFORE[0]),
}
BEFORE: list[torch.cuda.Event] = []


def recorded() -> torch.cuda.Event:
    """An event of the current stream."""
    event = torch.cuda.Event()
    event.record()
    return event


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_capture_forbids(what: str) -> None:
    x = torch.ones(8, device="cuda")
    BEFORE[:] = [recorded()]
    with pytest.raises(RuntimeError, match=r"capture|capturing"):
        captured(lambda: FORBIDDEN[what](x))
    captured(lambda: x + 1)


def test_pinned_memory_and_new_memory_are_allowed_in_a_capture() -> None:
    pinned = torch.ones(8).pin_memory()
    graph = captured(lambda: torch.empty(64 * MIB, device="cuda").fill_(1)[:8] + pinned.to("cuda", non_blocking=True))
    before = counters.total()
    graph.replay()
    assert (counters.total() - before)["graph_copies"] == 1
