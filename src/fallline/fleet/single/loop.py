"""One run at the speed of a plain loop: ordinary autograd, parameters changed in place.

It is a fleet of one: the same start, the same order of the data, the same noise, and the same record as
``fleet.run`` gives for this run, within 1e-10 over 50 stable steps in float64.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import rng, rules, specs
from ...errors import BadValue
from ...records import Outcome, Record
from ...specs import Run
from ...tasks.base import Task, Variables
from ...tree import norm, total
from ..settings import evaluations
from ..stopping import Asked, listening
from . import saving
from .backward import Backward, LossOf, autocast, check_parts, check_precision
from .best import Best
from .examples import Feed, judged, mean
from .pieces import Descent
from .ranks import Ranks, ranks
from .template import full_outputs, placed
from .trained import Log, Plan, Trained

Progress = Callable[[int], None]
LOOK = 16
"""Steps between two looks at the losses where a look makes a GPU or other processes wait."""
DRAWN = 0.1
"""Seconds between two reports of progress."""
_SIGNALS = ("", "SIGINT", "SIGTERM")


def train(task: Task, run: Run, plan: Plan, progress: Progress | None = None) -> Trained:
    """Train one run of a task.

    Args:
        task: what is trained.
        run: its rule and its seed.
        plan: how.
        progress: called with the number of steps done since its last call.
    """
    rules.check_trains(run.rule)
    task.check()
    where = ranks(plan.device)
    with listening(to_term=plan.file is not None) as asked:
        start = task.init(run.seed)
        check_precision(plan.precision, where.device, start.params)
        low = nullcontext() if plan.precision == "full" else full_outputs(task)
        with placed(task, start, where.device), low:
            training = Loop(task, run, plan, where, start)
            training.go(asked, progress or (lambda n: None))
            return training.result()


def loss_numbers(task: Task, run: Run) -> dict[str, float]:
    """The numbers of the loss in this run."""
    found = {}
    for path, value in {**task.numbers, **run.loss}.items():
        if isinstance(value, (specs.Axis, specs.Schedule)):
            raise BadValue(
                f"the loss number {path}={value!r} must be one number where one model is trained: write the number "
                "into the task's loss, or compare several of them"
            )
        if not path.startswith("model."):
            found[path] = float(value)
    return found


class Loop:
    """A training under way."""

    def __init__(self, task: Task, run: Run, plan: Plan, where: Ranks, start: Variables) -> None:
        self.task, self.run, self.plan, self.ranks = task, run, plan, where
        self.numbers = dict(specs.flatten(run.rule))
        self.seed = torch.tensor(rng.seed_for(run.seed, "noise"))
        own = [{k: _own(t, where.device) for k, t in tree.items()} for tree in start]
        self.module = LossOf(task, own[0], own[1], loss_numbers(task, run), self.seed)
        self.backward = Backward(self.module, where, plan.accumulate, plan.precision)
        rule = rules.fit(run.rule, rules.facts(self.module.params, task.module))
        self.descent = Descent(rule, self.module.params, self._h(0))
        self.near = where.device.type == "cpu" and where.count == 1
        self.step, self.died, self.stopped, self.spent = 0, -1, "", 0.0
        self.log, self.best = Log(), Best(task.metric.better, plan.keep)
        self.losses: list[float] = []
        self.pending: list[Tensor] = []
        self.notes: list[str] = []
        self._check_parts()
        saving.load(self)
        self.feed = Feed(task, run, plan.batch, where.device, self.step)
        if where.count > 1:
            self.backward.together(self._few())

    def _few(self) -> dict[str, Tensor]:
        few = {k: c[:4] for k, c in self.task.parts.get("train", {}).items()}
        return {k: c.to(self.ranks.device) for k, c in few.items()}

    def _check_parts(self) -> None:
        if self.ranks.count * self.plan.accumulate == 1:
            return
        few, each = self._few(), None
        if few:
            with torch.no_grad(), rng.Noise(self.seed, torch.tensor(-1)) as noise:
                noise.key = noise.key.to(self.ranks.device)
                each = self.task.score(self.descent.params, self.module.held, few, self.module.h)["loss"]
        size = self.plan.batch if self.task.stream else min(self.plan.batch, self.task.size("train"))
        check_parts(self.task, size, self.ranks, self.plan.accumulate, each)

    def _h(self, step: int) -> dict[str, float]:
        """The rule's numbers at a step."""
        return {
            path: float(value.at(step)) if isinstance(value, specs.Schedule) else value
            for path, value in self.numbers.items()
        }

    # --- training -------------------------------------------------------------------------------------------

    def go(self, asked: Asked, progress: Progress) -> None:
        """Train to the end, or until there is a reason to stop."""
        self.began, self.saved, done = time.perf_counter(), time.monotonic(), self.step
        told = self.saved
        if not self.log.steps["validation_loss"]:
            self._evaluate()
        while not self.stopped and self.step < self.plan.steps:
            stop = next(e for e in evaluations(self.plan.steps) if e > self.step)
            self._advance(measure=self.step == stop - 1)
            if self.near or self.step == stop or self.step % LOOK == 0:
                by = self._look(asked)
                if not self.stopped and self.step == stop:
                    self._evaluate()
                self._heed(by)
            if time.monotonic() - told > DRAWN:
                progress(self.step - done)
                told, done = time.monotonic(), self.step
        progress(self.step - done)
        self.stopped = self.stopped or "finished"
        self._save()

    def _advance(self, *, measure: bool) -> None:
        """Take one step."""
        loss, gradient = self.backward(self.feed.at(self.step), self.step)
        if self.near and not math.isfinite(value := float(loss)):
            self.died = self.step if self._finite() else self.step - 1
            return
        self.losses.append(value) if self.near else self.pending.append(loss)
        if gradient is not None:  # else it overflowed in fp16: the next one is scaled less
            ratio = self.descent.step(gradient, self._h(self.step), measure=measure)
            if ratio is not None:
                self.measured = {"gradient_norm": float(norm(gradient)), "update_ratio": float(ratio)}
        self.step += 1

    measured: Mapping[str, float] = {}

    def _look(self, asked: Asked) -> float:
        """See whether the training is still finite, and whether any of the processes is asked to stop, and how."""
        by = float(_SIGNALS.index(asked.by))
        if self.pending:
            own = torch.stack(self.pending).double().tolist()
            *values, by = self.ranks.total([*own, by])
            broken = [i for i, value in enumerate(values) if not math.isfinite(value)]
            self.died = self.step - len(own) + broken[0] if broken else -1
            self.losses += values
            self.pending.clear()
        self.stopped = "diverged" if self.died >= 0 else ""
        return by

    def _heed(self, by: float) -> None:
        """Stop where that was asked for, and save where it is time to."""
        self.stopped = self.stopped or ("interrupted" if by else "")
        if by >= _SIGNALS.index("SIGTERM") and self.stopped == "interrupted":
            self._save()
            raise SystemExit(143)
        if self.plan.file and not self.stopped and time.monotonic() - self.saved >= self.plan.every:
            self._save()

    def _finite(self) -> bool:
        return math.isfinite(float(total(self.descent.params)))

    def _evaluate(self) -> None:
        """Judge the model on validation, keep its weights where they are the best, and see whether to go on."""
        if self.step and not self._finite():
            self.died, self.stopped = self.step - 1, "diverged"
            return
        if self.step:
            self.log.add(self.step, train_loss=float(np.mean(self.losses)), **self.measured)
            self.losses, self.measured = [], {}
        seen = self.descent.seen()
        found = self._judged("validation", seen, self.module.held) if self.ranks.rank == 0 else {}
        loss, score = self.ranks.first([mean(found[k]) if found else 0.0 for k in ("loss", "score")])
        self.log.add(self.step, validation_loss=loss, validation_score=score)
        self.best.offer(self.step, loss, score, Variables(seen, self.module.held))
        if (
            self.plan.patience is not None
            and self.best.waited >= self.plan.patience
            and self.step < self.plan.steps
        ):
            self.stopped = "patience"

    def _judged(self, part: str, params: Any, buffers: Any) -> dict[str, Tensor]:
        with autocast(self.plan.precision, self.ranks.device):
            return judged(self.task, part, params, buffers, self.module.h, self.seed)

    def _save(self) -> None:
        if self.plan.file and self.ranks.rank == 0:
            try:
                saving.save(self)
            except OSError as error:  # a full disk costs what would have been saved, and not the training
                note = f"{self.plan.file} could not be written ({error.strerror}): what was saved before is still there"
                self.notes += [note] if note not in self.notes else []
        self.saved = time.monotonic()

    # --- the end --------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """The time spent in training, in earlier sittings too."""
        return self.spent + time.perf_counter() - self.began

    def result(self) -> Trained:
        """What is left."""
        kept = self.best.kept
        assert kept is not None
        test = self._judged("test", *kept.variables)
        variables = Variables(*({k: t.cpu() for k, t in tree.items()} for tree in kept.variables))
        own = {"validation_loss": kept.loss, "validation_score": kept.score}
        own |= {f"test_{name}": mean(values) for name, values in test.items()}
        series = self.log.series()
        last = {name: float(s.values[-1]) for name, s in series.items() if len(s)}
        outcome = self._outcome({**last, **own})
        examples = {f"test_{name}": v.numpy() for name, v in test.items() if v.ndim and not outcome.diverged}
        weights = {name: p.numpy() for name, p in variables.params.items()}
        record = Record(self.run, outcome, series, examples, weights)
        return Trained(record, kept, variables, self.stopped, own, tuple(self.notes))

    def _outcome(self, numbers: Mapping[str, float]) -> Outcome:
        if self.stopped == "diverged":
            last = self.log.values.get("train_loss", [])
            then = f"its last mean training loss was {last[-1]:.3g}" if last else "from its first steps on"
            sentence = f"left the finite numbers at step {self.died + 1}; {then}"
            return Outcome("diverged", self.died + 1, sentence, self.seconds, {})
        sentence = {
            "finished": "finished",
            "patience": f"stopped at step {self.step}: {self.best.waited} evaluations without an improvement",
            "interrupted": f"stopped at step {self.step} by Ctrl-C",
        }[self.stopped]
        status = "finished" if self.stopped == "finished" else "stopped"
        return Outcome(status, self.step, sentence, self.seconds, numbers)


def _own(t: Tensor, device: torch.device) -> Tensor:
    return t.detach().to(device, copy=True, memory_format=torch.contiguous_format)
