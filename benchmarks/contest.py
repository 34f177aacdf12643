"""Contenders in processes of their own, timed in turns: each as its users run it, on one state of the machine."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

Job = Callable[[], object]
"""What is timed: one step, one batch."""

Build = Callable[..., Job]
"""Makes a job in the process that runs it; importable by name."""

PAUSE = 0.05
"""Seconds before a turn, in which the threads of the last one go to sleep."""


@dataclass(frozen=True)
class Contender:
    """How a process makes its job, and with how many threads it runs."""

    build: Build
    words: tuple[Any, ...]
    threads: int


def turns(
    contenders: Mapping[str, Contender], *, rounds: int, times: int = 1, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each job of each contender, ``times`` of them in a turn: A B C A B C …"""
    with Processes(contenders) as processes:
        for name in contenders:
            processes.run(name, warmup)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                time.sleep(PAUSE)
                seconds[name] += processes.run(name, times)
    return seconds


def together(contenders: Mapping[str, Contender], *, count: int) -> float:
    """Seconds until every contender has done its job ``count`` times, all at once."""
    with Processes(contenders) as processes:
        for name in contenders:
            processes.run(name, 2)
        started = time.perf_counter()
        for name in contenders:
            processes.start(name, count)
        for name in contenders:
            processes.seconds(name)
        return time.perf_counter() - started


class Processes:
    """A spawned process for each contender, waiting for its turn."""

    def __init__(self, contenders: Mapping[str, Contender]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: dict[str, Connection] = {}
        self.processes = []
        for name, contender in contenders.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, contender), daemon=True)
            process.start()
            self.pipes[name] = ours
            self.processes.append(process)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self.pipes.values():
            pipe.close()
        for process in self.processes:
            process.join()

    def start(self, name: str, count: int) -> None:
        """Lets a contender do its job so many times."""
        self.pipes[name].send(count)

    def seconds(self, name: str) -> list[float]:
        """What each of them took."""
        answer: list[float] = self.pipes[name].recv()
        return answer

    def run(self, name: str, count: int) -> list[float]:
        """Both."""
        self.start(name, count)
        return self.seconds(name)


def serve(pipe: Connection, contender: Contender) -> None:
    """The process of a contender: makes its job, then does it as often as asked, until the pipe closes."""
    torch.set_num_threads(contender.threads)
    torch.manual_seed(0)
    job = contender.build(*contender.words)
    while True:
        try:
            count = pipe.recv()
        except EOFError:
            return
        pipe.send([_timed(job) for _ in range(count)])


def _timed(job: Job) -> float:
    started = time.perf_counter()
    job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(contenders: Sequence[Contender], *, count: int) -> float:
    """Seconds for doing every contender's job ``count`` times, one contender after the other."""
    named = {str(index): contender for index, contender in enumerate(contenders)}
    with Processes(named) as processes:
        for name in named:
            processes.run(name, 2)
        started = time.perf_counter()
        for name in named:
            processes.run(name, count)
        return time.perf_counter() - started
