"""Plain data obtained: what a run leaves. No torch here.

A :class:`Record` joins the run that was asked for (:class:`fallline.specs.Run`) to how it ended
(:class:`Outcome`), what was measured on the way (a :class:`Series` by name) and how each test example came out.
:mod:`fallline.store` keeps records in a file; :func:`json_text` writes any plain data as strict JSON.

By convention a run's ``tags`` say where it belongs: ``arm`` (its label), ``task``, ``replicate`` (a number),
``stage`` ('tune' or 'final') and ``settings`` (the hyperparameters that were searched, as in ``{"lr": 0.01}``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BadValue
from .specs import Run, Spec, plain

FINISHED, DIVERGED, STOPPED = "finished", "diverged", "stopped"


@dataclass(frozen=True, eq=False)
class Series:
    """One quantity, measured at some steps of a run.

    Args:
        steps: the steps done before each measurement, int64 [k].
        values: what was measured, floats [k]; NaN and infinities are values like others here.

    Two series are equal where they are the same bit for bit.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        object.__setattr__(self, "steps", np.asarray(self.steps, dtype=np.int64))
        object.__setattr__(self, "values", values)
        if self.steps.ndim != 1 or self.steps.shape != self.values.shape:
            raise BadValue(
                f"a series needs one value for each step, got steps of shape {list(self.steps.shape)} "
                f"and values of shape {list(self.values.shape)}"
            )

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Series):
            return NotImplemented
        return _same(self.steps, other.steps) and _same(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: 'finished', 'diverged' where the run left the finite numbers, or 'stopped' where it was given up
            before its last step.
        step: the last step done, or the step at which the run diverged.
        sentence: what happened, in words.
        seconds: this run's share of the time that its block of runs took.
        numbers: the final measurements: ``validation_loss``, ``validation_score`` and, for judged runs,
            ``test_loss`` and ``test_score``.
    """

    status: str
    step: int
    sentence: str = ""
    seconds: float = math.nan
    numbers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in (FINISHED, DIVERGED, STOPPED):
            raise BadValue(
                f"an outcome's status is {FINISHED!r}, {DIVERGED!r} or {STOPPED!r}, got {self.status!r}"
            )

    @property
    def diverged(self) -> bool:
        """Whether the run left the finite numbers."""
        return self.status == DIVERGED


@dataclass(frozen=True, eq=False)
class Record:
    """What one run leaves.

    Args:
        run: the run as it was asked for.
        outcome: how it ended.
        series: ``train_loss``, ``validation_loss``, ``validation_score``, ``gradient_norm``, ``update_ratio``.
        examples: how each test example came out: ``test_loss`` [m], ``test_score`` [m].
        weights: the final weights by name, kept only on request and never stored.
    """

    run: Run
    outcome: Outcome
    series: Mapping[str, Series] = field(default_factory=dict)
    examples: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def arm(self) -> str:
        """The label of the arm that this run belongs to; empty where it belongs to none."""
        return str(self.run.tags.get("arm", ""))

    @property
    def stage(self) -> str:
        """'tune' for a run that searched, 'final' for one that is judged; empty where neither was said."""
        return str(self.run.tags.get("stage", ""))


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def jsonable(value: Any) -> Any:
    """Plain data as JSON can hold it: numbers outside of the finite ones become None, arrays become lists.

    >>> jsonable({"score": float("nan"), "seeds": np.arange(2)})
    {'score': None, 'seeds': [0, 1]}
    """
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): jsonable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, Spec):
        return jsonable(plain(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise BadValue(f"{value!r} is not plain data: only names, numbers, lists, arrays and specs can be stored")


def json_text(value: Any, indent: int | None = None) -> str:
    """Plain data as one strict JSON document, in which every NaN and infinity is null.

    >>> json_text({"low": float("-inf")})
    '{"low": null}'
    """
    return json.dumps(jsonable(value), allow_nan=False, indent=indent)
