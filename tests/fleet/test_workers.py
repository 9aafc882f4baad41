"""Worker processes: the same records as in this process, and a sentence when one of them is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fallline as fl
from command_line import environment
from fallline import fleet, losses, rules
from fallline.errors import BadTask, BadValue, WorkerLost
from fallline.fleet import Fleet, pool
from fallline.tasks import Task, Variables

from .cases import ONCE, check_same, classification, regression, train

RUNS = [fl.Run(rules.sgd(lr=0.01 * (1 + i)), seed=i) for i in range(5)]
PARENT = os.getpid()


def with_loss(extra: Callable[[Tensor], Tensor]) -> Task:
    """A task whose loss does something more on the way; ``extra`` sees the loss."""
    task = regression()

    def loss(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        value, buffers = task.loss(params, buffers, batch, h)
        return extra(value), buffers

    return Task(**{**vars(task), "loss": loss})


def children() -> set[str]:
    """The processes that this one has started and not waited for, ended or not."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split())


@pytest.fixture(autouse=True)
def _leaves_no_process() -> Iterator[None]:
    """Whatever happens, every process that a test started has ended and has been waited for."""
    before = children()
    yield
    assert multiprocessing.active_children() == []
    assert children() <= before


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_records_are_the_same_with_any_number_of_workers(workers: int):
    for task in (classification(), regression(dtype=torch.float64)):
        mixed = [*RUNS, fl.Run(rules.adam(), seed=1), fl.Run(rules.sgd(lr=1e5), seed=1)]
        check_same(train(task, mixed, workers=workers), train(task, mixed), f"with {workers} workers")


def test_the_number_of_threads_here_changes_nothing_and_stays():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = train(classification(), RUNS)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    check_same(two, train(classification(), RUNS), "with two threads")


def test_one_fleet_trains_again_and_again_with_the_same_workers():
    task, settings = classification(), fleet.settings_for([classification()], 6, 7, judge=True, weights=True)
    with Fleet([task, regression()], workers=2, executor="traced") as both:
        processes = {w.process.pid for w in both.pool._workers}
        for which, alone in ((0, task), (1, regression())):
            found = {}
            for positions, records in both.train([(which, run) for run in RUNS], settings):
                found.update(zip(positions, records, strict=True))
            check_same(
                [found[i] for i in range(len(RUNS))], train(alone, RUNS, steps=6), "in a fleet of two tasks"
            )
        assert {w.process.pid for w in both.pool._workers} == processes


def test_a_fleet_that_is_left_in_the_middle_ends_its_workers():
    task, settings = classification(), fleet.settings_for([classification()], 5, 7, judge=False)
    with Fleet([task], workers=2, executor="traced") as crew:
        runs = [fl.Run(rule, seed=0) for rule in (rules.sgd(), rules.adam(), rules.momentum())]
        assert next(crew.train([(0, run) for run in runs], settings))


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_told_in_a_sentence():
    """It kills itself while it traces, as the memory's guard would."""

    def killed(value: Tensor) -> Tensor:
        if os.getpid() != PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    told = (
        r"^a worker process was killed by signal 9 while it trained 1 run; if memory ran out, ask for fewer "
        r"workers with workers=1$"
    )
    with pytest.raises(WorkerLost, match=told):
        train(with_loss(killed), RUNS, workers=2)


def test_a_worker_that_is_killed_between_steps_is_told_in_a_sentence():
    """From outside, as soon as it has reported its first steps."""
    with Fleet([classification()], workers=1, executor="traced") as crew:
        settings = fleet.settings_for(crew.tasks, 100_000, 7, judge=False)

        def kill(done: int) -> None:
            os.kill(crew.pool._workers[0].process.pid, signal.SIGKILL)

        with pytest.raises(WorkerLost, match=r"was killed by signal 9 while it trained 1 run"):
            list(crew.train([(0, run) for run in RUNS], settings, kill))


def test_a_worker_that_was_killed_before_its_work_is_replaced():
    with Fleet([classification()], workers=1, executor="traced") as crew:
        settings = fleet.settings_for(crew.tasks, 5, 7, judge=True, weights=True)
        process = crew.pool._workers[0].process
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        ((_, records),) = crew.train([(0, run) for run in RUNS], settings)
    check_same(records, train(classification(), RUNS, steps=5))


def test_a_worker_that_leaves_is_told_with_its_status():
    def left(value: Tensor) -> Tensor:
        if os.getpid() != PARENT:
            os._exit(3)
        return value

    with pytest.raises(WorkerLost, match=r"^a worker process ended with status 3 while it trained 5 runs; "):
        train(with_loss(left), RUNS, workers=1)


def failed(value: Tensor) -> Tensor:
    if os.getpid() != PARENT:
        raise ZeroDivisionError("in the middle\nof the loss")
    return value


def test_an_exception_in_the_users_loss_is_reported_with_its_traceback():
    told = r"^a worker failed while it trained 5 runs: ZeroDivisionError: in the middle of the loss"
    with pytest.raises(WorkerLost, match=told) as lost:
        train(with_loss(failed), RUNS, workers=2)
    assert "\n" not in str(lost.value)
    (trace,) = lost.value.__notes__
    assert "Traceback (most recent call last)" in trace
    assert "in failed" in trace
    assert "test_workers.py" in trace


def test_an_exception_in_this_process_is_the_users_own():
    def broken(value: Tensor) -> Tensor:
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match=r"^here$"):
        train(with_loss(broken), RUNS)


def test_an_error_that_teaches_comes_through_as_it_is():
    def refused(value: Tensor) -> Tensor:
        if os.getpid() != PARENT:
            raise BadTask("the loss of this task is not for this")
        return value

    with pytest.raises(BadTask, match=r"^the loss of this task is not for this$"):
        train(with_loss(refused), RUNS, workers=2)


def test_without_processes_that_fork_blocks_train_here(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pool, "can_fork", lambda: False)
    with Fleet([classification()], workers=4, executor="traced") as crew:
        assert (len(crew.pool), crew.plan()["workers"]) == (1, 1)
    check_same(train(classification(), RUNS, workers=2), train(classification(), RUNS))


def test_there_is_at_least_one_core():
    assert pool.cores() >= 1


def test_a_signal_to_all_is_the_parents_to_answer():
    """Ctrl-C reaches the whole group of processes: workers go on, and end with their parent."""
    interrupted = threading.Event()

    def interrupt(done: int) -> None:
        if not interrupted.is_set():
            interrupted.set()
            os.kill(crew.pool._workers[0].process.pid, signal.SIGINT)

    with Fleet([classification()], workers=1, executor="traced") as crew:
        settings = fleet.settings_for(crew.tasks, 30, 7, judge=False)
        ((positions, records),) = crew.train([(0, run) for run in RUNS], settings, interrupt)
    assert interrupted.is_set()
    assert (positions, len(records)) == (list(range(5)), 5)


# --- what is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": -1}, "^workers must be a whole number, 0 to train in this process, got -1$"),
        ({"workers": True}, "^workers must be a whole number, 0 to train in this process, got True$"),
        (
            {"executor": "fast"},
            "^executor must be auto, traced, compiled or alone, or graphed on a GPU, got 'fast'$",
        ),
        ({"steps": 0}, "^steps must be a whole number of at least 1, got 0$"),
        ({"steps": 2.5}, "^steps must be a whole number of at least 1, got 2.5$"),
        ({"batch": 0}, "^batch must be a whole number of at least 1, got 0$"),
        ({"batch": True}, "^batch must be a whole number of at least 1, got True$"),
        ({"runs": []}, "^runs is empty: a fleet needs a list of at least one fl.Run$"),
        ({"runs": [rules.sgd()]}, r"^runs must be made by fl.Run\(rule=…, seed=…\), got sgd\(lr=0.01\)$"),
        (
            {"runs": [fl.Run(rules.sgd(), loss={"w": 1.0})]},
            r"^the loss of Sequential has no number \['w'\]; it has \[\]$",
        ),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], told: str):
    given = {"runs": RUNS, "steps": 3, **ONCE, **options}
    with pytest.raises(BadValue, match=told):
        fleet.run(classification(), given.pop("runs"), **given)


def test_a_task_must_be_a_task():
    with pytest.raises(
        BadTask, match=r"^task must be a fallline task such as fl.tasks.digits\(\), got a str$"
    ):
        fleet.run("digits", RUNS, steps=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (
            fl.axis(0.1, 1),
            r"^the loss number 1.weight=axis\(0.1, 1\) must be given a value in each run: Run\(loss=",
        ),
        (float("nan"), "^the loss number 1.weight of a run must be a finite number, got nan$"),
        (True, "^the loss number 1.weight of a run must be a finite number, got True$"),
        ("a", "^the loss number 1.weight of a run must be a finite number, got 'a'$"),
    ],
)
def test_a_loss_number_must_be_a_number(weight: Any, told: str):
    task = regression(loss=losses.mse + fl.axis(0.1, 1) * losses.mae)
    with pytest.raises(BadValue, match=told):
        train(task, [fl.Run(rules.sgd(), loss={"1.weight": weight})])


def test_a_rule_that_only_climbs_is_refused():
    with pytest.raises(ValueError, match="gives a direction uphill, not a step"):
        train(classification(), [fl.Run(rules.clip_norm(1.0))])


def test_a_task_without_data_trains_in_workers_as_here():
    def init(seed: int) -> Variables:
        return Variables({"w": torch.tensor([3.0, 1.0]) + seed}, {})

    steep = torch.tensor([1.0, 10.0])
    bowl = Task(
        "bowl",
        init,
        loss=lambda p, b, batch, h: ((p["w"] ** 2 * steep).sum(), b),
        score=lambda p, b, batch, h: {"loss": (p["w"] ** 2 * steep).sum(), "score": p["w"].norm()},
        parts={},
        metric=fl.tasks.Metric("distance", "lower"),
    )
    here = train(bowl, RUNS, steps=40, executor="auto")
    check_same(train(bowl, RUNS, steps=40, workers=2, executor="auto"), here, "in workers")
    assert here[0].outcome.numbers["test_score"] < here[0].series["validation_score"].values[0]
    assert here[0].examples == {}


def test_a_process_ends_with_a_fleet_that_was_never_closed():
    text = (
        "import fallline as fl\n"
        "crew = fl.fleet.Fleet([fl.tasks.digits()], workers=2, executor='traced')\n"
        "asked = [(0, fl.Run(fl.rules.sgd(lr=0.1), seed=i)) for i in range(3)]\n"
        "print(sum(len(records) for _, records in crew.train(asked, fl.fleet.Settings(3, 7, (0, 3)))))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", text], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "3"), ended.stderr
