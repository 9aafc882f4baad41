"""One worker process: it receives blocks of runs, trains them, and sends what they leave.

A worker is forked, so a task may be anything that Python can hold (a lambda, a model from a notebook); only runs,
snapshots and records travel through its pipe. It ends with the process that started it, however that ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

import torch

from ..errors import FalllineError, WorkerLost
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from .block import trained
from .guard import Guard, Stopped
from .plan import Job
from .settings import Settings
from .snapshot import Snapshot
from .workshop import Workshop

Progress = Callable[[int], None]
Message: TypeAlias = tuple[int, list[Run], Settings, Snapshot | None, int | None]
Guarded: TypeAlias = Callable[[Sequence[Run], Callable[[str], None]], Guard]
"""Makes the guard of a block; it is given the runs, and what takes the guard's sentences."""
PARENTS = {signal.SIGINT, signal.SIGTERM}
"""Signals that are the parent's to answer: it stops its workers."""


class OutOfMemory(WorkerLost):
    """A worker ended because memory ran out, as far as one can tell."""


def is_memory(what: str) -> bool:
    """Whether an error, told with its type, says that memory ran out."""
    signs = ("MemoryError", "can't allocate memory", "annot allocate memory", "out of memory")
    return any(sign in what for sign in signs)


def told(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def done(
    tasks: Sequence[Task], message: Message, workshop: Workshop, guard: Guard, progress: Progress
) -> list[Record] | Snapshot:
    """Train a block, and give back its records, or where it stands if there is more to come."""
    task, runs, settings, start, until = message
    with trained(
        tasks[task], runs, settings, workshop, progress, start=start, until=until, guard=guard
    ) as block:  # fmt: skip
        return block.records() if until is None else block.snapshot()


class Worker:
    """One process and the pipe to it.

    Args:
        tasks: the tasks, known to the worker by their number.
        guarded: makes the guards of its blocks.
        others: the pipes to other workers, which this one must not hold open.
    """

    def __init__(self, tasks: Sequence[Task], guarded: Guarded, others: Sequence[Connection]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.reported = 0
        inherited = [*others, self.pipe]
        bound = threading.current_thread() is threading.main_thread()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)  # until the worker ignores them
        try:
            self.process = context.Process(
                target=_serve, args=(theirs, inherited, tasks, guarded, bound), daemon=True
            )
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def start(self, job: Job, message: Message) -> None:
        """Give it a block.

        Raises:
            WorkerLost: where it has ended.
        """
        self.reported = 0
        try:
            self.pipe.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._lost(job) from error

    def receive(self, job: Job) -> tuple[str, Any]:
        """What it says: ``progress`` with a number, ``event`` with a sentence, ``done`` with what a block left, ``stopped``.

        Raises:
            OutOfMemory: where it failed for lack of memory, as far as one can tell.
            WorkerLost: where it failed for another reason.
        """
        try:
            kind, content = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._lost(job) from error
        if kind == "error":
            failed, what, trace = content
            if isinstance(failed, FalllineError):
                raise failed
            kind_of = OutOfMemory if is_memory(what) else WorkerLost
            lost = kind_of(f"a worker failed while it trained {job.told}: {what}")
            lost.add_note(trace)
            raise lost
        self.reported += content if kind == "progress" else 0
        return kind, content

    def _lost(self, job: Job) -> WorkerLost:
        self.process.join(timeout=10)
        code = self.process.exitcode
        killed = code is not None and code < 0
        how = f"was killed by signal {-(code or 0)}" if killed else f"ended with status {code}"
        kind_of = (
            OutOfMemory if code == -signal.SIGKILL else WorkerLost
        )  # so a system ends what takes too much
        return kind_of(
            f"a worker process {how} while it trained {job.told}; if memory ran out, ask for fewer "
            "workers with workers=1"
        )

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.pipe.close()
        self.process.kill()
        self.process.join()
        self.process.close()


def ready(workers: Sequence[Worker]) -> list[Worker]:
    """The workers that have something to say, or have ended, once there are any."""
    by_object = {thing: worker for worker in workers for thing in (worker.pipe, worker.process.sentinel)}
    return list(dict.fromkeys(by_object[thing] for thing in wait(list(by_object))))  # type: ignore[index]


def _serve(
    pipe: Connection, inherited: Sequence[Connection], tasks: Sequence[Task], guarded: Guarded, bound: bool
) -> None:
    """What a worker does: receive a block, train it, send what it leaves; end when the pipe closes."""
    for number in PARENTS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)
    if bound:
        _end_with_parent()
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    workshop = Workshop()
    try:
        while True:
            pipe.send(_answer(pipe, pipe.recv(), tasks, workshop, guarded))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(
    pipe: Connection, message: Message, tasks: Sequence[Task], workshop: Workshop, guarded: Guarded
) -> tuple[str, Any]:
    try:
        guard = guarded(message[1], lambda sentence: pipe.send(("event", sentence)))
        left = done(tasks, message, workshop, guard, lambda n: pipe.send(("progress", n)))
        for note in workshop.notes():
            pipe.send(("event", note))
        return "done", left
    except Stopped:
        return "stopped", None
    except Exception as error:
        known = error if isinstance(error, FalllineError) else None
        return "error", (known, told(error), traceback.format_exc())


def _end_with_parent() -> None:
    """Have Linux kill this process when the thread that forked it ends, which is the parent's main thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def orphaned(parent: int) -> bool:
    """Whether this process was forked by another, which has ended."""
    return parent not in (os.getpid(), os.getppid())
