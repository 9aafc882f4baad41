"""What is asked of a single training, and what it leaves, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...records import Record, Series
from ...tasks.base import Variables
from .best import Kept

MEASURED = ("validation_loss", "validation_score", "train_loss", "gradient_norm", "update_ratio")


@dataclass(frozen=True)
class Plan:
    """How one model trains.

    Args:
        steps: steps of the training.
        batch: examples in a batch, over all processes and parts.
        keep: which weights are kept: those with the best score or the lowest loss on validation, or the last ones.
        patience: evaluations without an improvement after which the training stops.
        accumulate: parts in which a batch is taken, one after another.
        precision: full, bf16 or fp16.
        device: where it trains; left out, a GPU where there is one.
        file: where the training is saved; None where it is not.
        every: seconds between two saves.
        resume: whether to go on from what is saved there.
    """

    steps: int
    batch: int
    keep: str = "best"
    patience: int | None = None
    accumulate: int = 1
    precision: str = "full"
    device: str | None = None
    file: Path | None = None
    every: float = 60.0
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves.

    Args:
        record: as a fleet gives it; its weights are those that were kept.
        kept: the weights that were kept, and when.
        variables: these weights, on the CPU.
        stopped: finished, patience, diverged or interrupted.
        numbers: loss and score of the kept weights on validation and test.
        notes: what must be said beside it.
    """

    record: Record
    kept: Kept
    variables: Variables
    stopped: str
    numbers: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass
class Log:
    """What has been measured: by name, the steps and the values."""

    steps: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in MEASURED})
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})

    def add(self, step: int, **measured: float) -> None:
        for name, value in measured.items():
            self.steps.setdefault(name, []).append(step)
            self.values.setdefault(name, []).append(float(value))

    def series(self) -> dict[str, Series]:
        return {
            name: Series(np.array(at, dtype=np.int64), np.array(self.values[name], dtype=np.float64))
            for name, at in self.steps.items()
        }
