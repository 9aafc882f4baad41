"""The user's own module behind a task: where it stands while it trains, and how it comes back with its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ...errors import BadTask
from ...tasks.base import Task, Variables
from ...tasks.models import with_weights


def template(task: Task) -> nn.Module | None:
    """The module that a task of ``Task.supervised`` calls with each run's weights; None where there is none."""
    return task.module


@contextmanager
def placed(task: Task, variables: Variables, device: torch.device) -> Iterator[None]:
    """Inside, what a model holds beside a run's variables (frozen weights, which all runs share) is on a device."""
    own, whole = {**variables.params, **variables.buffers}, template(task)
    named = [] if whole is None else [*whole.named_parameters(), *whole.named_buffers()]
    moved = [(t, t.data) for name, t in named if name not in own and t.device != device]
    for t, there in moved:
        t.data = there.to(device)
    try:
        yield
    finally:
        for t, there in moved:
            t.data = there


@contextmanager
def full_outputs(task: Task) -> Iterator[None]:
    """Inside, what the model gives is float32, whatever precision it computes in, so that the loss keeps its digits."""
    whole = template(task)
    if whole is None:
        yield
        return

    def full(module: nn.Module, given: Any, out: Any) -> Any:
        return tree_map(lambda t: t.float() if _low(t) else t, out)

    hook = whole.register_forward_hook(full)
    try:
        yield
    finally:
        hook.remove()


def _low(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)


def module(task: Task, variables: Variables) -> nn.Module:
    """A new module of the task's, with these parameters and buffers, in evaluation mode."""
    whole = template(task)
    if whole is None:
        raise BadTask(
            f"{task.name} is not made of one nn.Module, so there is none to give back: its trained tensors are in "
            "state_dict()"
        )
    return with_weights(copy.deepcopy(whole), {**variables.params, **variables.buffers}).eval()
