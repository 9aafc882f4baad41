"""Train one model: the best weights, its curves, and a module to go on with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import rules, specs
from ..errors import BadRule, BadStore, BadTask, BadValue
from ..fleet import single
from ..fleet.single import alone
from ..rules.parse import parse
from ..specs import Rule, Run
from ..tasks.base import Task
from ..tasks.find import find
from .progress import meter
from .training import Training, document_of

STEPS = 600
WEIGHTS, CHECKPOINT = "weights.safetensors", "checkpoint.safetensors"


def train(
    task: Task | str,
    rule: Any = "adam",
    *,
    steps: int | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    seed: int = 0,
    keep: str = "best",
    patience: int | None = None,
    accumulate: int = 1,
    precision: str = "full",
    device: str | None = None,
    out: str | Path | None = None,
    every: float = 60.0,
    resume: bool = False,
    progress: bool | None = None,
) -> Training:
    """Train one model, at the speed of a plain PyTorch loop.

    It is a fleet of one: the same initial weights, order of data and noise as ``fl.fleet.run`` gives a run with this
    rule and seed. Validation is looked at 25 times, closer together at the beginning, as in a fleet. A training that
    leaves the finite numbers stops, and one that is stopped by Ctrl-C ends after its step; both keep the best weights
    so far and say so.

    Under ``torchrun`` each process takes its share of every batch, ``DistributedDataParallel`` averages the gradients,
    and the first process writes and prints. Parts of a batch, over processes or by ``accumulate``, each have noise of
    their own, and batch norm sees parts; without these the result is that of the whole batch.

    Args:
        task: a task, a built-in name, or ``path/file.py:function``.
        rule: a rule, or a name such as ``"adam"``, at the rule's default learning rate, or a text with numbers.
        steps: steps of the training; 600 where neither steps nor epochs are given.
        epochs: instead of steps: passes over the training examples.
        batch: examples in a batch, over all processes; the task's where left out.
        seed: decides the initial weights, the order of the data and all noise.
        keep: "best" keeps the weights with the best validation score, "loss" those with the lowest validation loss,
            "last" the last.
        patience: stop after so many evaluations without an improvement; left out, never.
        accumulate: take each batch in so many parts, one after another, to save memory; the loss must be a mean over
            examples.
        precision: "full", "bf16" or, on a GPU, "fp16" with a scaled loss; weights stay in float32.
        device: ``cpu``, ``cuda``, ``cuda:1``; left out, a GPU where there is one.
        out: a folder for the weights and for what a training needs to go on; nothing is written where left out.
        every: seconds between two saves there.
        resume: go on with the training in ``out``, to the same bits on the same machine, or begin it.
        progress: whether to show a progress bar; left out, where someone is watching.

    Returns:
        The weights, the record, the curves, and ``model()``.

    >>> found = train("digits", "adam(lr=0.01)", steps=100)
    >>> found.document["validation_score"] > 0.9
    True
    >>> found.model()(found.task.parts["test"]["inputs"]).shape[1]
    10
    """
    found = find(task) if isinstance(task, str) else task
    if not isinstance(found, Task):
        raise BadTask(f"task must be a fallline task such as fl.tasks.digits(), got a {type(found).__name__}")
    chosen, note = rule_of(rule)
    run = Run(chosen, seed)
    size = _whole("batch", found.batch if batch is None else batch)
    if not isinstance(every, (int, float)) or not every >= 0:
        raise BadValue(f"every must be a number of seconds of at least 0, got {every!r}")
    if resume and out is None:
        raise BadValue("resume=True goes on with the training in a folder: say which by out=…")
    plan = single.Plan(
        _steps(found, steps, epochs, size), size, keep, None if patience is None else _whole("patience", patience),
        _whole("accumulate", accumulate), precision, device, None if out is None else Path(out) / CHECKPOINT, every, resume,
    )  # fmt: skip
    with _folder(out) as folder, meter(f"training {found.name}", shown=progress if alone() else False) as bar:
        bar.expect(plan.steps)
        trained = single.train(found, run, plan, bar)
        document = document_of(found, trained, [note] if note else [])
        training = Training(document, found, trained)
        if folder is not None and alone():
            document["weights"] = str(training.save(folder / WEIGHTS))
    return training


# --- what was asked ---------------------------------------------------------------------------------------


def rule_of(given: Any) -> tuple[Rule, str]:
    """The rule, and a note where its learning rate is the rule's default and not the asker's."""
    if isinstance(given, str) and "(" not in given:
        parse(given)  # says what is wrong with a name
        made: Any = rules.base.behavior(Rule(given.strip())).make
    elif isinstance(given, str):
        made = parse(given)
    else:
        made = given
    if callable(made) and not isinstance(made, Rule) and getattr(made, "__name__", "") in specs.kinds(Rule):
        made = made()
        rate = dict(specs.flatten(made)).get("lr")
        note = (
            f"{made.kind} ran at its default numbers, lr={rate:g}: fl.find_lr finds which ones work"
            if rate
            else ""
        )
        return made, note
    if not isinstance(made, Rule):
        raise BadRule(f"a rule is a name, or a value such as fl.rules.adam(lr=1e-3); got {made!r}")
    return made, ""


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadValue(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _steps(task: Task, steps: int | None, epochs: float | None, batch: int) -> int:
    if epochs is None:
        return _whole("steps", STEPS if steps is None else steps)
    if steps is not None:
        raise BadValue(f"steps={steps!r} and epochs={epochs!r} both say how long to train: give one of them")
    examples = 0 if task.stream else task.size("train")
    if not examples:
        raise BadValue(f"the training data of {task.name} have no end to count epochs by: give steps")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not 0 < epochs < math.inf:
        raise BadValue(f"epochs must be a number above 0, got {epochs!r}")
    return math.ceil(epochs * examples / min(batch, examples))


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path | None]:
    """The folder that is written to; where nothing was, it is not left behind."""
    if out is None:
        yield None
        return
    folder = Path(out)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadStore(
            f"the folder {folder} cannot be made ({error.strerror}): choose another by out"
        ) from error
    try:
        yield folder
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise
