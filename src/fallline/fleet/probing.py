"""How a GPU trains a task's blocks: how many runs at once, and whether by a graph; tried and measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .. import rules
from ..errors import BadTask, BadValue, FalllineError
from ..specs import Run
from ..tasks.base import Task
from . import device as devices
from . import machine, trial
from .block import Block
from .graphed import WARM
from .guard import Guard
from .members import MODEL
from .settings import Settings
from .trial import Choice
from .worker import is_memory, told
from .workshop import Workshop

FIRST, MOST = 64, 1 << 15
"""Runs in the first block that is tried, and in the last."""
GAIN = 1.1
"""By how much a block of twice the size must be faster, run for run."""
SHARE = 0.8
"""Of a GPU's free memory, for a block in training."""
DATA = 0.5
"""Of a GPU's free memory, for a task's data."""
SEEDS = 8
LONGEST, LEAST, SPAN = 64, 4, 0.1
"""A measurement takes so many steps, between these, as fit into so many seconds."""


@dataclass(frozen=True)
class Measured:
    """What blocks of one size were measured to take.

    Args:
        step: seconds for one step of one run.
        memory: bytes of one run.
        note: where the program is not executed as it was asked for.
    """

    step: float
    memory: int
    note: str = ""


def check_executor(executor: str, device: torch.device) -> None:
    """Refuse an executor that is unknown, or that a device has not."""
    if executor not in ("auto", "traced", "graphed", "compiled", "alone"):
        raise BadValue(
            f"executor must be auto, traced, compiled or alone, or graphed on a GPU, got {executor!r}"
        )
    if executor == "graphed" and device.type != "cuda":
        raise BadValue(
            "executor='graphed' replays CUDA graphs and needs a GPU: ask for device='cuda' with it"
        )
    if executor == "compiled" and device.type == "cuda":
        raise BadValue(
            f"executor='compiled' is C for the processor, and {device} is a GPU: ask for graphed, traced or auto there"
        )


def choose(task: Task, device: torch.device, executor: str = "auto") -> Choice:
    """Try some runs of a task on a device, and find the size of its blocks there.

    Args:
        task: what is trained.
        device: where.
        executor: auto, or the one that is asked for.

    Raises:
        BadTask: where its data do not fit there, or a single run does not.
    """
    task.check()
    _check_data(task, device)
    try:
        return _chosen(task, device, executor)
    except Exception as error:
        if isinstance(error, FalllineError) or not is_memory(told(error)):
            raise
        raise BadTask(
            f"one run of {task.name} does not fit into the memory of {device}, of which {machine.told(free(device))} are "
            "free: ask for a smaller batch or a smaller model, or train on the processor (device='cpu')"
        ) from error


def _chosen(task: Task, device: torch.device, executor: str) -> Choice:
    where, small = str(device), trial.with_little_to_judge(task)
    if executor == "alone":
        return Choice("alone", 1, trial.ASKED, device=where)
    reason = trial.ASKED
    if executor == "auto":
        executor = "graphed"
        try:
            batched = trial.tried(small, "traced", 3, where)
        except FalllineError:
            raise
        except Exception as error:
            if is_memory(told(error)):
                raise
            why = f"the model cannot be batched there: {trial.why(task, error)}, so each run trains alone"
            return Choice("alone", 1, why, device=where)
        alone = trial.tried(small, "alone", 2)
        if name := trial.differs(batched, alone):
            why = f"in a block and alone on the processor, {name} differs after {trial.STEPS} steps, so each run trains alone"
            return Choice("alone", 1, why, device=where)
        reason = f"in a block and alone on the processor agree on {trial.STEPS} steps"
    workshop = Workshop()
    largest, found = grown(lambda runs: measured(small, runs, device, executor, workshop), free(device))
    if found.note:
        executor, reason = "traced", f"{reason}; {found.note}"
    reason += f"; {1e6 * found.step:.3g} µs for a step of a run in blocks of {largest}"
    return Choice(executor, largest, reason, found.step, found.memory, where)  # type: ignore[arg-type]


def faster(there: list[Choice], here: list[Choice], workers: int) -> bool:
    """Whether tasks train sooner on a GPU than in so many processes."""
    batched = all(choice.executor != "alone" for choice in there)
    return batched and trial.FASTER * sum(c.step for c in there) < sum(c.step for c in here) / workers


def grown(
    measure: Callable[[int], Measured], room: float, first: int = FIRST, most: int = MOST
) -> tuple[int, Measured]:
    """The number of runs in a block, doubled for as long as a run's step gets cheaper by it and memory allows.

    Args:
        measure: measures blocks of a size.
        room: bytes that are free.
        first, most: the sizes to begin and to end with.
    """
    runs, full = first, False
    best: tuple[int, Measured] | None = None
    while True:
        try:
            found = measure(runs)
        except Exception as error:
            if not is_memory(told(error)) or runs == 1:
                raise
            if best is not None:
                return best
            runs, full = runs // 2, True
            continue
        if best is not None and best[1].step < found.step * GAIN:
            return best
        best = runs, found
        if full or 2 * runs > most or 2 * runs * found.memory > SHARE * room:
            return best
        runs *= 2


def measured(task: Task, runs: int, device: torch.device, executor: str, workshop: Workshop) -> Measured:
    """The time and the memory of a run in a block of this size, trained by Adam."""
    numbers = {k: v for k, v in task.first_numbers().items() if not k.startswith(MODEL)}
    asked = [Run(rules.adam(lr=1e-3), seed=i % SEEDS, loss=numbers) for i in range(runs)]
    settings = Settings(LONGEST, task.batch, (0, LONGEST), largest=runs, device=str(device))
    settings = replace(settings, executor=executor)  # type: ignore[arg-type]
    before = _held(device, reset=True)
    with workshop.around(task, asked, settings):
        block = Block(workshop.cast(task), asked, settings, workshop, None)
        _seconds(block, WARM + 2)  # programs are made, and the graph
        count = max(LEAST, min(LONGEST, int(SPAN / max(_seconds(block, LEAST), 1e-9))))
        step = statistics.median(_seconds(block, count) for _ in range(3))
        memory = max(0, _held(device) - before) // runs
    least = 4 * sum(p.nbytes for p in block.carry.params.values()) // runs
    note = next(iter(workshop.notes()), "")
    return Measured(step / runs, max(memory, least), note)


def _seconds(block: Block, steps: int) -> float:
    """For one step, taken after what the device was given before is done."""
    devices.settled(block.device)
    began = time.perf_counter()
    block.advance(block.step + steps, Guard())
    devices.settled(block.device)
    return (time.perf_counter() - began) / steps


# --- memory -----------------------------------------------------------------------------------------------


def free(device: torch.device) -> int:
    """Bytes that can be had on a device, those that torch holds there for nobody included."""
    if device.type != "cuda":
        return machine.free_memory()
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def _held(device: torch.device, *, reset: bool = False) -> int:
    """The most bytes that were held on a device since this was last reset."""
    if device.type != "cuda":
        return 0
    if reset:
        torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.max_memory_allocated(device))


def _check_data(task: Task, device: torch.device) -> None:
    size: Any = sum(column.nbytes for columns in task.parts.values() for column in columns.values())
    if size > DATA * free(device):
        raise BadTask(
            f"the data of {task.name} take {machine.told(size)}, and {machine.told(free(device))} are free on {device}, where "
            "runs need room, too: train on the processor (device='cpu'), or give a smaller part of the data"
        )
