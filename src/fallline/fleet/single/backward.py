"""The gradient of one batch by ordinary autograd: in parts, in lower precision, over several processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...errors import BadTask, BadValue
from ...rng import Noise, fold
from ...tasks.base import Batch, Task
from ...types import Tree
from .ranks import Ranks

PRECISIONS = {"full": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Inside, matrix products and convolutions are computed in lower precision."""
    kind = PRECISIONS[precision]
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def check_precision(precision: str, device: torch.device, params: Tree) -> None:
    """Refuse a precision that cannot be had."""
    if precision not in PRECISIONS:
        raise BadValue(f"precision must be full, bf16 or fp16, got {precision!r}")
    if precision == "fp16" and device.type != "cuda":
        raise BadValue(
            f"precision='fp16' needs a GPU, and this training is on {device.type}: take bf16, which has the range of "
            "float32, or full"
        )
    if precision != "full" and any(p.dtype != torch.float32 for p in params.values()):
        raise BadValue(f"precision={precision!r} needs a task in float32: its parameters are torch.float64")


class LossOf(nn.Module):
    """The training loss of a batch as a module, which has a model's parameters and buffers as its own.

    Args:
        task: the task.
        params, buffers: a model's variables, taken over.
        h: the numbers of the loss.
        seed: where a run's noise comes from, 0-d int64.
    """

    def __init__(self, task: Task, params: Tree, buffers: Tree, h: Mapping[str, Any], seed: Tensor) -> None:
        super().__init__()
        self.task, self.h, self.seed = task, h, seed
        self.params: Tree = {name: nn.Parameter(p) for name, p in params.items()}
        self.held, self.after = dict(buffers), dict(buffers)
        for i, p in enumerate(self.params.values()):  # names of parameters hold dots, which torch refuses
            self.register_parameter(f"p{i}", p)  # type: ignore[arg-type]
        for i, b in enumerate(self.held.values()):
            self.register_buffer(f"b{i}", b)

    def forward(self, batch: Batch, part: int, step: int) -> Tensor:
        """The loss of one part of a step's batch."""
        with Noise(fold(self.seed, part) if part else self.seed, torch.tensor(step)) as noise:
            noise.key = noise.key.to(next(iter(self.params.values())).device)
            value, self.after = self.task.loss(self.params, self.held, batch, self.h)
        return value

    @torch.no_grad()
    def settle(self) -> None:
        """Take over the buffers that the last forward pass left; not before its backward pass, which may read them."""
        for name, held in self.held.items():
            if self.after[name] is not held:
                held.copy_(self.after[name])


class Backward:
    """The gradients of a model's batches.

    A batch is taken in parts: over processes, and one after another within each. Part 0 draws the noise that the
    whole batch would draw, each other part its own.

    Args:
        module: the loss of the model.
        ranks: the processes.
        accumulate: parts in each process.
        precision: full, bf16 or fp16.
    """

    def __init__(self, module: LossOf, ranks: Ranks, accumulate: int, precision: str) -> None:
        self.module, self.ranks, self.accumulate, self.precision = module, ranks, accumulate, precision
        self.params = module.params
        self.scaler = torch.amp.GradScaler(ranks.device.type) if precision == "fp16" else None
        self._carrier = _Carrier(list(self.params.values()))
        self.called: nn.Module = module

    def together(self, batch: Batch) -> None:
        """Let the processes share their gradients from now on."""
        if self.ranks.count == 1:
            return
        with autocast(self.precision, self.ranks.device):  # which parameters the loss does not reach
            self.module(batch, 0, 0).backward()
        unused = any(p.grad is None for p in self.params.values())
        self.called = DistributedDataParallel(self.module, find_unused_parameters=unused)

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tree | None]:
        """This process's share of a batch's loss, and the gradient of the whole; None where fp16 overflowed."""
        for p in self.params.values():
            p.grad = None
        losses = []
        shares = list(self._shares(batch))
        for i, (part, number, share) in enumerate(shares):
            with self._alone(last=i == len(shares) - 1), autocast(self.precision, self.ranks.device):
                value = self.called(part, number, step)
                loss = value * share if share is not None else value
                losses.append(loss.detach())
                # processes average their gradients, and shares add up to one
                loss = loss * self.ranks.count if self.ranks.count > 1 else loss
            with self._alone(last=i == len(shares) - 1):
                (self.scaler.scale(loss) if self.scaler else loss).backward()
            self.module.settle()
        whole = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        return whole, self._gradient() if self._finite() else None

    def _alone(self, *, last: bool) -> AbstractContextManager[Any]:
        """Processes wait for each other once a step, at its last part."""
        shared = isinstance(self.called, DistributedDataParallel) and not last
        return self.called.no_sync() if shared else nullcontext()  # type: ignore[operator]

    def _shares(self, batch: Batch) -> Iterator[tuple[Batch, int, Any]]:
        """The parts of this process, the number of each among all parts, and its share of the examples' weight."""
        count, first = self.ranks.count * self.accumulate, self.ranks.rank * self.accumulate
        if count == 1:
            yield batch, 0, None
            return
        n = len(next(iter(batch.values())))
        ends = [n * i // count for i in range(count + 1)]
        weight = batch.get("weight")
        for i in range(first, first + self.accumulate):
            start, stop = ends[i], ends[i + 1]
            part = {name: column[start:stop] for name, column in batch.items()}
            if weight is None:
                yield part, i, (stop - start) / n
                continue
            own = part["weight"].sum()
            part["weight"] = torch.where(own > 0, part["weight"], 1.0)  # a mean that then counts for nothing
            yield part, i, own / weight.sum()

    def _finite(self) -> bool:
        """Whether the gradients can be used: in fp16, whether none overflowed; they are scaled back there."""
        if self.scaler is None:
            return True
        self._carrier.stepped = False
        self.scaler.unscale_(self._carrier)
        self.scaler.step(self._carrier)
        self.scaler.update()
        return self._carrier.stepped

    def _gradient(self) -> Tree:
        return {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in self.params.items()}


class _Carrier(torch.optim.Optimizer):
    """What a GradScaler calls where no gradient overflowed; the step is taken elsewhere."""

    stepped = False

    def __init__(self, params: list[Tensor]) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.stepped = True


def check_parts(task: Task, batch: int, ranks: Ranks, accumulate: int, each: Tensor | None) -> None:
    """Refuse to take a batch in parts where their gradients do not add up to that of the whole.

    Args:
        task: the task.
        batch: examples in a batch.
        ranks: the processes.
        accumulate: parts in each process.
        each: the loss of some examples, as the task's score gives it.
    """
    count = ranks.count * accumulate
    if count == 1:
        return
    how = (
        f"{ranks.count} processes × accumulate={accumulate}"
        if ranks.count > 1
        else f"accumulate={accumulate}"
    )
    if each is None:
        raise BadTask(
            f"{how} takes a batch in parts, and {task.name} has no data to take apart: leave it out"
        )
    if batch < count:
        raise BadValue(
            f"{how} takes a batch in {count} parts, but it has {batch} examples: ask for a larger batch"
        )
    if each.ndim == 0:
        raise BadTask(
            f"{how} takes a batch in {count} parts, but the loss of {task.name} is one number for a whole batch, not a "
            "mean over its examples, so that parts do not add up to it: train without it"
        )
