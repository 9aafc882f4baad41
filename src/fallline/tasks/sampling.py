"""What one run sees of the training part: a fold, a subset, a resampled set, noisy labels; data axes of a fleet.

Nothing is copied: a run gets row numbers, and one column of its own where its labels are noisy. All randomness comes
from counters and the ``draw``, never from the run's seed, so that runs of many seeds share a training set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..domains import Domain
from ..errors import BadTask, BadValue, NotFound, nearest
from .base import Task

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

FOLDS = 5
AXES: dict[str, Domain] = {
    "fold": Domain("the number, from 0, of the fold that takes the validation part's place", 0),
    "folds": Domain("the number of folds that the training part is cut into", 2),
    "subset": Domain("the number of training examples", 1),
    "resample": Domain("the number of a bootstrap sample, drawn with replacement", 0),
    "label_noise": Domain("the share of training examples whose label is changed to another class", 0, 1),
    "draw": Domain("the number of the random draw, which runs of any seed may share", 0),
}
"""What a run may ask of its data, by name, in the order in which it is done."""
SHARES = {"label_noise"}


@dataclass(frozen=True, eq=False)
class Sample:
    """What one run sees.

    Args:
        train: rows of the training part to train on, in rising order; a row may repeat.
        validation: rows of the training part that take the validation part's place, where a fold is left out.
        columns: columns of the training part that are this run's own, in the part's whole length.
    """

    train: Rows
    validation: Rows | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)


def sample(task: Task, data: Mapping[str, float]) -> Sample:
    """What a run that asks for ``data`` sees of a task's training part.

    In this order:

    - ``fold`` k of ``folds`` (5): the part is dealt out into folds of sizes that differ by at most one, classes
      evenly; fold k validates, the others train.
    - ``subset`` m: m examples, classes in the shares that they have; with one draw, 100 examples are among the 200.
    - ``resample`` k: as many examples again, drawn with replacement (the bootstrap sample number k).
    - ``label_noise`` s: of the n distinct examples left, round(s · n) get the label of another class, each other
      class equally likely; with one draw, those changed at 0.1 are among those at 0.2. What validates stays clean.

    ``draw`` (0) chooses other folds, subsets, samples and labels. It does not depend on the run's seed.

    Args:
        task: a task with its training data at hand (not a stream).
        data: values by name, as in ``{"label_noise": 0.2, "draw": 1}``; empty for the whole part.

    Errors: ``NotFound`` for an unknown name, ``BadValue`` for a value outside of its range, ``BadTask`` for a task
    whose data cannot give what is asked for.

    >>> import numpy as np
    >>> from fallline import layers, losses
    >>> X, y = np.zeros((100, 3)), np.arange(100) % 4
    >>> task = Task.supervised(lambda: layers.mlp(3, 4), (X, y), loss=losses.cross_entropy)
    >>> seen = sample(task, {"subset": 8, "label_noise": 0.25})
    >>> len(seen.train), int((seen.columns["target"] != task.parts["train"]["target"]).sum())
    (8, 2)
    """
    asked = {name: _number(name, value) for name, value in data.items()}
    rows: Rows = np.arange(task.size("train"))
    if not asked:
        return Sample(rows)
    _check(task, asked)
    draw = asked.get("draw", 0)
    validation: Rows | None = None
    columns: dict[str, Tensor] = {}
    if "fold" in asked:
        left_out = _folds(task, asked.get("folds", FOLDS), draw) == asked["fold"]
        rows, validation = rows[~left_out], rows[left_out]
    if "subset" in asked:
        rows = _subset(task, rows, asked["subset"], draw)
    if "resample" in asked:
        uniform = rng.uniform(_key(draw, f"resample {asked['resample']}"), (len(rows),), torch.float64)
        rows = np.sort(rows[(uniform * len(rows)).long().numpy()])
    if asked.get("label_noise"):
        columns["target"] = _noisy(task, rows, asked["label_noise"], draw)
    return Sample(rows, validation, columns)


def _number(name: str, value: float) -> Any:
    """The value, checked; a whole number where it counts or chooses."""
    if name not in AXES:
        raise NotFound(f"the data of a run have no axis {name!r}; {nearest(name, AXES)}")
    AXES[name].check("data", name, value)
    if name in SHARES:
        return float(value)
    if value != int(value):
        raise BadValue(
            f"data({name}={value:g}): {name} is {AXES[name].meaning}, which must be a whole number"
        )
    return int(value)


def _check(task: Task, asked: Mapping[str, Any]) -> None:
    """Refuse what the task's data cannot give."""
    named = ", ".join(asked)
    if task.stream is not None:
        raise BadTask(
            f"{task.name} streams its training data, which are seen once and cannot be chosen from: leave out {named}, "
            "or pass the data as arrays"
        )
    n, fold, folds = task.size("train"), asked.get("fold"), asked.get("folds", FOLDS)
    if n == 0:
        raise BadTask(f"{task.name} has no training data, so that a run cannot ask for {named}")
    if fold is None and "folds" in asked:
        raise BadValue(
            f"folds={folds} says how many folds there are, but not which one validates: give fold too"
        )
    if fold is not None and fold >= folds:
        raise BadValue(f"fold={fold} does not exist: {folds} folds are numbered from 0 to {folds - 1}")
    if fold is not None and folds > n:
        raise BadValue(
            f"{n} training examples of {task.name} cannot be cut into {folds} folds: ask for fewer"
        )


def _key(draw: int, purpose: str) -> Tensor:
    return torch.tensor(rng.seed_for(draw, f"data {purpose}"))


def _shuffled(n: int, draw: int, purpose: str) -> Rows:
    """A permutation of 0 … n − 1 that belongs to one draw and purpose."""
    return torch.argsort(rng.fold(_key(draw, purpose), torch.arange(n)), stable=True).numpy()


def _classes(task: Task) -> Rows:
    """The class of each training example as 0, 1, …; all 0 where the target is not one class an example."""
    target = task.parts["train"].get("target")
    if target is None or target.is_floating_point() or target.ndim != 1:
        return np.zeros(task.size("train"), dtype=np.int64)
    return np.unique(target.numpy(), return_inverse=True)[1].astype(np.int64)


def _folds(task: Task, folds: int, draw: int) -> Rows:
    """The fold of each training example: shuffled, put in order of class, and dealt out like cards."""
    shuffled = _shuffled(task.size("train"), draw, "fold")
    by_class = shuffled[np.argsort(_classes(task)[shuffled], kind="stable")]
    fold = np.empty_like(by_class)
    fold[by_class] = np.arange(len(by_class)) % folds
    return fold


def _subset(task: Task, rows: Rows, wanted: int, draw: int) -> Rows:
    """The first ``wanted`` rows of an order whose every beginning has each class in about its share."""
    if wanted > len(rows):
        raise BadValue(
            f"subset={wanted} is more than the {len(rows)} training examples of {task.name} there are"
        )
    rank = np.argsort(_shuffled(task.size("train"), draw, "subset"))
    shuffled = rows[np.argsort(rank[rows])]
    of = _classes(task)[shuffled]
    grouped = np.argsort(of, kind="stable")
    sizes = np.bincount(of)
    place = np.arange(len(of)) - (np.cumsum(sizes) - sizes)[of[grouped]]  # 0, 1, … within each class
    quantile = np.empty(len(of))
    quantile[grouped] = (place + 0.5) / sizes[of[grouped]]
    return np.sort(shuffled[np.argsort(quantile, kind="stable")[:wanted]])


def _noisy(task: Task, rows: Rows, share: float, draw: int) -> Tensor:
    """The target with the labels of a share of the distinct rows changed, each to a class that it is not."""
    target = task.parts["train"].get("target")
    if target is None or target.is_floating_point() or target.ndim != 1:
        raise BadTask(
            f"label_noise={share:g} changes classes, but the target of {task.name} is not one class for each example: "
            "add noise to such a target in the data themselves"
        )
    classes, own = np.unique(target.numpy(), return_inverse=True)
    if len(classes) < 2:
        raise BadTask(
            f"label_noise={share:g} needs at least 2 classes, but all targets of {task.name} are {classes[0]}"
        )
    seen = np.unique(rows)
    rank = np.argsort(_shuffled(len(own), draw, "label_noise"))
    changed = seen[np.argsort(rank[seen])][: round(share * len(seen))]
    uniform = rng.uniform(_key(draw, "label"), (len(own),), torch.float64).numpy()[changed]
    further = 1 + (uniform * (len(classes) - 1)).astype(np.int64)
    noisy = target.clone()
    noisy[torch.from_numpy(changed)] = torch.from_numpy(classes[(own[changed] + further) % len(classes)])
    return noisy
