"""How a fleet trains, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from .programs import Executor

LARGEST = 64
"""Runs in a block of small models: beyond it the per-step overhead is paid off, and the caches overflow."""


@dataclass(frozen=True)
class Settings:
    """How a fleet trains.

    Args:
        steps: steps of each run.
        batch: examples in a training batch, unless a run asks for its own.
        evaluations: the numbers of steps after which runs are evaluated on the validation part.
        judge: whether runs are evaluated on the test part, example by example, at the end.
        weights: whether the final parameters are kept in the record.
        executor: how blocks of runs are executed.
        largest: the runs in the task's largest blocks: what depends on the size of a block goes by it, and never by
            the block at hand, so that a run gives the same digits in any.
        device: cpu, or a GPU such as cuda:0.
    """

    steps: int
    batch: int
    evaluations: tuple[int, ...]
    judge: bool = False
    weights: bool = False
    executor: Executor = "traced"
    largest: int = LARGEST
    device: str = "cpu"


def evaluations(steps: int, points: int = 24) -> tuple[int, ...]:
    """When to evaluate: 0, the last step, and between them closer together at the beginning.

    >>> evaluations(100, 5)
    (0, 4, 16, 36, 64, 100)
    """
    return tuple(sorted({round(steps * (k / points) ** 2) for k in range(points + 1)}))
