"""One single-threaded worker process per core, each training one block of runs at a time.

Workers are forked, so a task may be anything that Python can hold (a lambda, a model from a notebook); only runs
and records travel through pipes. Where processes cannot be forked, blocks train in this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from ..errors import FalllineError, WorkerLost
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from .block import Programs, Settings, train
from .plan import Job

Progress = Callable[[int], None]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Whether worker processes can be forked here (not on Windows, and not safely on macOS)."""
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


class Pool:
    """Workers that hold the tasks and train blocks of runs.

    Args:
        tasks: the tasks, known to the workers by their number.
        workers: how many processes; 0 trains in this process.
    """

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        self.tasks, self._programs = tasks, Programs()
        self._workers: list[_Worker] = []
        for _ in range(workers if can_fork() else 0):
            self._workers.append(_Worker(tasks, [w.pipe for w in self._workers]))

    def __len__(self) -> int:
        return max(1, len(self._workers))

    def run(
        self, jobs: Sequence[Job], runs: Sequence[Run], settings: Settings, progress: Progress
    ) -> Iterator[tuple[Job, list[Record]]]:
        """Train the jobs, each as soon as a worker is free, and give back records as blocks are done."""
        if self._workers:
            yield from self._shared_out(jobs, runs, settings, progress)
            return
        for job in jobs:
            wanted = [runs[i] for i in job.positions]
            yield job, train(self.tasks[job.task], wanted, job.settings(settings), self._programs, progress)

    def _shared_out(
        self, jobs: Sequence[Job], runs: Sequence[Run], settings: Settings, progress: Progress
    ) -> Iterator[tuple[Job, list[Record]]]:
        waiting = list(reversed(jobs))
        busy: dict[_Worker, Job] = {}
        while waiting or busy:
            for worker in self._workers:
                if worker not in busy and waiting:
                    job = waiting.pop()
                    worker.start(job, [runs[i] for i in job.positions], job.settings(settings))
                    busy[worker] = job
            for worker in _ready(list(busy)):
                kind, content = worker.receive(busy[worker])
                if kind == "progress":
                    progress(content)
                else:
                    yield busy.pop(worker), content

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """The workers that have something to say, or have ended."""
    by_object = {thing: worker for worker in workers for thing in (worker.pipe, worker.process.sentinel)}
    return list(dict.fromkeys(by_object[thing] for thing in wait(list(by_object))))  # type: ignore[index]


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, tasks: Sequence[Task], others: Sequence[Connection]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        inherited = [*others, self.pipe]
        self.process = context.Process(target=_serve, args=(theirs, inherited, tasks), daemon=True)
        self.process.start()
        theirs.close()

    def start(self, job: Job, runs: list[Run], settings: Settings) -> None:
        self._send((job.task, runs, settings), job)

    def _send(self, message: Any, job: Job) -> None:
        try:
            self.pipe.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._lost(job) from error

    def receive(self, job: Job) -> tuple[str, Any]:
        try:
            kind, content = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._lost(job) from error
        if kind == "error":
            failed, what, trace = content
            if isinstance(failed, FalllineError):
                raise failed
            lost = WorkerLost(f"a worker failed while it trained {len(job.positions)} runs: {what}")
            lost.add_note(trace)
            raise lost
        return kind, content

    def _lost(self, job: Job) -> WorkerLost:
        self.process.join(timeout=10)
        code = self.process.exitcode
        how = (
            f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        )
        return WorkerLost(
            f"a worker process {how} while it trained {len(job.positions)} runs; if memory ran out, ask for fewer "
            "workers with workers=1"
        )

    def close(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()
        self.process.close()


def _serve(pipe: Connection, inherited: Sequence[Connection], tasks: Sequence[Task]) -> None:
    """What a worker does: receive a block, train it, send its records; end when the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    programs = Programs()
    while True:
        try:
            task, runs, settings = pipe.recv()
        except EOFError:
            return
        try:
            records = train(tasks[task], runs, settings, programs, lambda n: pipe.send(("progress", n)))
            pipe.send(("done", records))
        except Exception as error:
            known = error if isinstance(error, FalllineError) else None
            what = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
            pipe.send(("error", (known, what, traceback.format_exc())))
