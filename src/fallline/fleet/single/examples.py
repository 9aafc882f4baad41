"""The examples of one run on its device: those of each step, and those that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ... import rng
from ...specs import Run
from ...tasks.base import Batch, Task
from ...types import Tree
from ..feed import Order, Stream

AHEAD = 256
"""Steps whose examples are drawn at once."""
JUDGED = 1 << 22
"""Numbers in the inputs that are judged at once, so that activations stay within memory."""
SHARE = 0.25
"""The largest share of a GPU's free memory that training data may take; larger data is sent batch by batch."""


class Feed:
    """The batch of each step, in the order in which a fleet gives it to this run.

    Args:
        task: the task.
        run: whose order it is.
        batch: examples at a step.
        device: where the batches go.
        start: the steps that were done before.
    """

    def __init__(self, task: Task, run: Run, batch: int, device: torch.device, start: int) -> None:
        self.device = device
        self.stream = None if task.stream is None else Stream(task, batch, start)
        self.order = Order([run.seed], task.size("train"), batch)
        columns = dict(task.parts.get("train", {}))
        self.columns = _sent(columns, device) if _fits(columns, device) else columns
        self._drawn: tuple[int, Tensor] = (-1, torch.empty(0))

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        if self.stream is not None:
            return _sent(self.stream.next(), self.device)
        begin = step // AHEAD * AHEAD
        if self._drawn[0] != begin:
            self._drawn = begin, self.order.between(begin, begin + AHEAD)[:, 0]
        index = self._drawn[1][step - begin]
        return _sent({name: c[index.to(c.device)] for name, c in self.columns.items()}, self.device)


def _sent(columns: Batch, device: torch.device) -> Batch:
    return {name: column.to(device, non_blocking=True) for name, column in columns.items()}


def _fits(columns: Batch, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    size = sum(column.numel() * column.element_size() for column in columns.values())
    return size < SHARE * torch.cuda.mem_get_info(device)[0]


@torch.no_grad()
def judged(
    task: Task, part: str, params: Tree, buffers: Tree, h: Mapping[str, Any], seed: Tensor
) -> dict[str, Tensor]:
    """Loss and score on a part: for each example, or 0-d where a measure is not a mean over examples."""
    device = next(iter(params.values())).device
    columns = dict(task.parts.get(part, {}))
    total = task.size(part)

    def on(start: int, stop: int) -> dict[str, Tensor]:
        few = _sent({name: column[start:stop] for name, column in columns.items()}, device)
        with rng.Noise(seed, torch.tensor(-1 - start)) as noise:
            noise.key = noise.key.to(device)
            return {name: t.detach().cpu() for name, t in task.score(params, buffers, few, h).items()}

    width = max((column[0].numel() for column in columns.values() if len(column)), default=1)
    size = max(1, JUDGED // max(1, width))
    found = on(0, size)
    if size >= total:
        return found
    if any(values.ndim == 0 for values in found.values()):
        return on(0, total)
    pieces = [found, *(on(i, i + size) for i in range(size, total, size))]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in found}


def mean(values: Tensor) -> float:
    """The mean over examples, or the one number."""
    return float(values.double().mean())
