"""One single-threaded worker process per core, each training one block of runs at a time.

Where processes cannot be forked, or none are asked for, blocks train in this process, one after another.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import util

from ..errors import WorkerLost
from ..records import Record
from ..specs import Run
from ..tasks.base import Task
from .guard import Guard, Stopped
from .keep import Keep
from .plan import Job
from .settings import Settings
from .snapshot import Snapshot
from .worker import Message, OutOfMemory, Progress, Worker, done, is_memory, orphaned, ready, told
from .workshop import Workshop

Left = tuple[Job, list[Record] | Snapshot]
"""A job, and what its block left."""


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
        keep: where blocks in training are saved from time to time; None where they are not.
    """

    def __init__(self, tasks: Sequence[Task], workers: int, keep: Keep | None = None) -> None:
        self.tasks, self.keep, self._workshop = tasks, keep, Workshop()
        self.events: list[str] = []
        self._most: dict[int, int] = {}
        self._owner = os.getpid()
        self._stop = multiprocessing.RawValue("b", 0)  # shared with the workers
        self._workers: list[Worker] = []
        # for a pool that is never closed: at exit, before multiprocessing waits for workers that heed no SIGTERM
        util.Finalize(self, _end, args=(self._workers, self._owner), exitpriority=10)
        for _ in range(workers if can_fork() else 0):
            self._workers.append(self._worker())

    def __len__(self) -> int:
        return max(1, len(self._workers))

    def stop(self) -> None:
        """Ask all blocks to save themselves after the step that they are at, and to end; safe in a signal handler."""
        self._stop.value = 1

    def run(
        self, jobs: Sequence[Job], runs: Sequence[Run], settings: Settings, progress: Progress
    ) -> Iterator[Left]:
        """Do the jobs, each as soon as a worker is free, and give back what a block leaves when it is done.

        Raises:
            Stopped: after :meth:`stop`, once every block is saved.
        """
        waiting = [piece for job in reversed(jobs) for piece in self._fitting(job)]
        if self._workers:
            yield from self._shared_out(waiting, runs, settings, progress)
        else:
            yield from self._here(waiting, runs, settings, progress)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        _end(self._workers, self._owner)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _message(self, job: Job, runs: Sequence[Run], settings: Settings) -> Message:
        return job.task, [runs[i] for i in job.positions], job.settings(settings), job.start, job.until

    def _guard(self, runs: Sequence[Run], tell: Callable[[str], None]) -> Guard:
        if self.keep is None:
            return Guard(stop=self._asked)
        return Guard(self.keep.saver(runs, tell), self.keep.every, self._asked)

    def _asked(self) -> bool:
        """Whether to stop; a worker without its parent ends at once, as another process may go on with the study."""
        if orphaned(self._owner):
            os._exit(1)
        return bool(self._stop.value)

    def _told(self, event: str) -> None:
        self.events += [] if event in self.events else [event]

    # --- in this process --------------------------------------------------------------------------------------

    def _here(
        self, waiting: list[Job], runs: Sequence[Run], settings: Settings, progress: Progress
    ) -> Iterator[Left]:
        while waiting:
            if self._stop.value:
                raise Stopped
            job, reported = waiting.pop(), [0]

            def report(n: int, reported: list[int] = reported) -> None:
                reported[0] += n
                progress(n)

            message = self._message(job, runs, settings)
            try:
                left = done(self.tasks, message, self._workshop, self._guard(message[1], self._told), report)
            except Exception as error:
                if len(job.positions) == 1 or not is_memory(told(error)):
                    raise
            else:
                for note in self._workshop.notes():
                    self._told(note)
                yield job, left
                continue
            waiting, kept = self._smaller(job, message[1], waiting)  # here, where the failed block is let go
            progress(kept - reported[0])

    # --- in workers -------------------------------------------------------------------------------------------

    def _worker(self) -> Worker:
        return Worker(self.tasks, self._guard, [w.pipe for w in self._workers])

    def _shared_out(
        self, waiting: list[Job], runs: Sequence[Run], settings: Settings, progress: Progress
    ) -> Iterator[Left]:
        busy: dict[Worker, Job] = {}
        while busy or (waiting and not self._stop.value):
            for worker in list(self._workers):
                if worker not in busy and waiting and not self._stop.value:
                    job = waiting.pop()
                    busy[self._started(worker, job, self._message(job, runs, settings))] = job
            for worker in ready(list(busy)):
                try:
                    kind, content = worker.receive(busy[worker])
                except OutOfMemory as lost:
                    job = busy.pop(worker)
                    self._make_room(worker, job, lost)
                    waiting, kept = self._smaller(job, [runs[i] for i in job.positions], waiting)
                    progress(kept - worker.reported)
                    continue
                if kind == "progress":
                    progress(content)
                elif kind == "event":
                    self._told(content)
                elif kind == "stopped":
                    busy.pop(worker)
                else:
                    yield busy.pop(worker), content
        if self._stop.value:
            raise Stopped

    def _started(self, worker: Worker, job: Job, message: Message) -> Worker:
        """The worker that was given the block: this one, or another where this one ended while it had nothing to do."""
        try:
            worker.start(job, message)
        except WorkerLost:
            worker = self._replaced(worker)
            worker.start(job, message)
        return worker

    def _replaced(self, worker: Worker) -> Worker:
        worker.close()
        self._workers.remove(worker)
        self._workers.append(self._worker())
        return self._workers[-1]

    # --- out of memory ----------------------------------------------------------------------------------------

    def _make_room(self, worker: Worker, job: Job, lost: OutOfMemory) -> None:
        """Have as many workers as before; one fewer where not even one run fits beside the others."""
        if len(job.positions) > 1:
            if not worker.process.is_alive():
                self._replaced(worker)
        elif len(self._workers) > 1:
            worker.close()
            self._workers.remove(worker)
            self._told(f"memory ran out for a block of 1 run, so {len(self._workers)} trained at a time")
        else:
            raise lost

    def _smaller(self, job: Job, runs: Sequence[Run], waiting: Sequence[Job]) -> tuple[list[Job], int]:
        """What is to be done from here on, in blocks of half the size, and how many run-steps of this one are kept."""
        count = len(job.positions)
        if count > 1:
            self._most[job.task] = size = min(math.ceil(count / 2), self._most.get(job.task, count))
            self._told(f"memory ran out for {count} runs in a block, so {size} trained at once")
        saved = None if self.keep is None else self.keep.last(runs)
        begun, kept = 0 if job.start is None else job.start.step, 0
        if saved is not None and saved.step > begun:
            job, kept = replace(job, start=saved.renamed(runs)), (saved.step - begun) * count
        return [piece for other in (*waiting, job) for piece in self._fitting(other)], kept

    def _fitting(self, job: Job) -> list[Job]:
        return job.cut(self._most.get(job.task, len(job.positions)))


def _end(workers: list[Worker], owner: int) -> None:
    """End workers, in the process that they are of."""
    while os.getpid() == owner and workers:
        workers.pop().close()
