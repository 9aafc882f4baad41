"""Plain data that says what is asked for: rules, schedules, losses, axes, runs and studies. No torch here.

A :class:`Rule`, a :class:`Schedule` and a :class:`Loss` are the same shape of value: a *kind*, named *numbers*,
static *options* and *children*. What a kind does is registered elsewhere (``fallline.rules``,
``fallline.schedules``, ``fallline.losses``) and found through :func:`behavior`, so these values print,
compare, nest, and survive a trip through JSON: :func:`plain` and :func:`rebuild` are inverse to each other.

A *number* is what may differ from run to run inside one program: a float, a :class:`Schedule` (a value for
each step) or an :class:`Axis` (a value for each run). An *option* shapes the program itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from .domains import Axis as Axis
from .domains import Domain as Domain
from .domains import axis as axis
from .domains import log_axis as log_axis
from .domains import show
from .errors import BadValue, NotFound, nearest
from .registry import behavior as behavior
from .registry import check
from .registry import kinds as kinds
from .registry import register as register


@dataclass(frozen=True, repr=False)
class Spec:
    """What rules, schedules and losses have in common: a kind, numbers, options and children."""

    kind: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Any, ...] = ()

    family: ClassVar[str] = "spec"

    def __repr__(self) -> str:
        parts = [repr(child) for child in self.children]
        parts += [f"{name}={show(value)}" for name, value in {**self.numbers, **self.options}.items()]
        return f"{self.kind}({', '.join(parts)})"

    def __hash__(self) -> int:
        return hash((self.family, self.kind, frozenset(self.numbers.items()), self.children))

    def replace(self, **numbers: Any) -> Any:
        """The same value with other numbers; a name may reach into children by index, as in ``{"1.lr": 0.1}``."""
        known = dict(flatten(self))
        for name, value in numbers.items():
            if name not in known:
                raise NotFound(f"{self.kind} has no number {name!r}; {nearest(name, known)}")
            check(self, name, value)
        return self._replaced(numbers)

    def _replaced(self, numbers: Mapping[str, Any]) -> Any:
        own = {name: numbers.get(name, value) for name, value in self.numbers.items()}
        children = tuple(child._replaced(inside(numbers, i)) for i, child in enumerate(self.children))
        return replace(self, numbers=own, children=children)


class Rule(Spec):
    """An update rule as a value; :mod:`fallline.rules` gives it behavior."""

    family = "rule"


class Schedule(Spec):
    """A value for each step; :mod:`fallline.schedules` gives it behavior."""

    family = "schedule"

    def at(self, step: Any) -> Any:
        """The value at a step (counted from 0): a float for an int, a tensor for a tensor of steps."""
        return behavior(self).at(self, step)


class Loss(Spec):
    """A loss as a value; :mod:`fallline.losses` gives it behavior. Losses add, and scale by a number or an axis."""

    family = "loss"

    def __call__(self, *given: Any, **options: Any) -> Any:
        """With tensors, the loss of (prediction, target); with keywords alone, this loss with other settings."""
        return behavior(self).call(self, *given, **options)

    def __add__(self, other: Any) -> Loss:
        if type(other) is int and other == 0:  # where sum() begins
            return self
        if not isinstance(other, Loss):
            raise BadValue(f"a loss adds to a loss, got {other!r}")
        terms = (one.children if one.kind == "sum" else (one,) for one in (self, other))
        return Loss("sum", children=tuple(chain.from_iterable(terms)))

    def __mul__(self, weight: Number) -> Loss:
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number and not isinstance(weight, (Axis, Schedule)):
            raise BadValue(f"a loss scales by a finite number, a schedule or an axis, got {weight!r}")
        return Loss("scaled", {"weight": weight}, children=(self,))

    __radd__, __rmul__ = __add__, __mul__


Number: TypeAlias = "float | int | Schedule | Axis"
S = TypeVar("S", bound=Spec)


# --- numbers by path --------------------------------------------------------------------------------------


def flatten(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Every number of a value and of its children, by path.

    >>> dict(flatten(Rule("chain", children=(Rule("clip_norm", {"max_norm": 1.0}), Rule("sgd", {"lr": 0.1})))))
    {'0.max_norm': 1.0, '1.lr': 0.1}
    """
    yield from spec.numbers.items()
    for i, child in enumerate(spec.children):
        for path, value in flatten(child):
            yield f"{i}.{path}", value


def inside(numbers: Mapping[str, Any], child: int) -> dict[str, Any]:
    """The numbers of one child, by the path inside it."""
    prefix = f"{child}."
    return {path.removeprefix(prefix): value for path, value in numbers.items() if path.startswith(prefix)}


def axes(spec: Spec) -> dict[str, Axis]:
    """The axes in a value, by path; a path may lead into a schedule, as in ``lr.start``.

    >>> axes(Rule("sgd", {"lr": Axis((0.1, 1.0))}))
    {'lr': axis(0.1, 1)}
    """
    found: dict[str, Axis] = {}
    for path, value in flatten(spec):
        if isinstance(value, Axis):
            found[path] = value
        elif isinstance(value, Schedule):
            found.update({f"{path}.{inner}": axis for inner, axis in axes(value).items()})
    return found


def settle(spec: S, settings: Mapping[str, float]) -> S:
    """A value with its axes settled: ``settings`` gives a number for the path of each.

    >>> settle(Rule("sgd", {"lr": Axis((0.1, 1.0))}), {"lr": 0.1})
    sgd(lr=0.1)
    """
    numbers: dict[str, Any] = {}
    for path, value in flatten(spec):
        if isinstance(value, Schedule):
            prefix = f"{path}."
            own = {p.removeprefix(prefix): n for p, n in settings.items() if p.startswith(prefix)}
            numbers[path] = settle(value, own)
        elif path in settings:
            numbers[path] = settings[path]
    return cast(S, spec._replaced(numbers))


def structure(spec: Spec) -> str:
    """What is left of a value without its numbers: two values with one structure can share one program."""
    inner = ",".join(structure(child) for child in spec.children)
    options = ",".join(f"{k}={v!r}" for k, v in sorted(spec.options.items()))
    return f"{spec.kind}[{','.join(spec.numbers)};{options}]({inner})"


# --- plain data -------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value as JSON can hold it; infinities become text, as JSON has none.

    >>> plain(Rule("sgd", {"lr": 0.1}))
    {'rule': 'sgd', 'numbers': {'lr': 0.1}}
    """
    if isinstance(value, Spec):
        data: dict[str, Any] = {value.family: value.kind}
        if value.numbers:
            data["numbers"] = {name: plain(number) for name, number in value.numbers.items()}
        if value.options:
            data["options"] = {name: plain(option) for name, option in value.options.items()}
        if value.children:
            data["children"] = [plain(child) for child in value.children]
        return data
    if isinstance(value, Axis):
        return {"axis": list(value.values), "log": value.log}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise BadValue(f"{value!r} is not plain data: only names, numbers, lists and specs can be stored")


_FAMILIES: dict[str, type[Spec]] = {family.family: family for family in (Rule, Schedule, Loss)}


def rebuild(data: Any) -> Any:
    """The value that :func:`plain` wrote down.

    >>> rebuild({"rule": "sgd", "numbers": {"lr": 0.1}})
    sgd(lr=0.1)
    """
    if isinstance(data, Mapping):
        for name, family in _FAMILIES.items():
            if name in data:
                return family(
                    str(data[name]),
                    {k: rebuild(v) for k, v in data.get("numbers", {}).items()},
                    {k: rebuild(v) for k, v in data.get("options", {}).items()},
                    tuple(rebuild(child) for child in data.get("children", ())),
                )
        if "axis" in data:
            return Axis(tuple(data["axis"]), log=bool(data["log"]))
        return {name: rebuild(item) for name, item in data.items()}
    if isinstance(data, list):
        return tuple(rebuild(item) for item in data)
    if data in ("inf", "-inf", "nan"):
        return float(data)
    return data


# --- runs and studies -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One training, asked for: a rule, a seed, and whatever of the task is to differ in this run.

    Args:
        rule: the update rule; its numbers are floats or schedules here (an axis is many runs).
        seed: decides the initial weights, the order of the data and all noise. Runs with one seed share them.
        loss: values for numbers of the task's loss, by path, as in ``{"1.weight": 0.3}``.
        tags: plain data that the asker wants to find again in the record.
        model: values for arguments of the model's factory and numbers of its modules, as in
            ``{"width": 17, "dropout": 0.3}``.
        data: what the run sees of the training data, as in ``{"label_noise": 0.2}`` or ``{"fold": 3}``.
        batch: examples in a training batch; left out, as many as for the other runs.
    """

    rule: Rule
    seed: int = 0
    loss: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, float] = field(default_factory=dict)
    batch: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise BadValue(f"a run needs a rule such as fl.rules.adam(lr=1e-3), got {self.rule!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**62:
            raise BadValue(f"a seed is a whole number from 0 to 2**62 - 1, got {self.seed!r}")
        for path, value in (*flatten(self.rule), *self.model.items(), *self.data.items()):
            if isinstance(value, Axis):
                raise BadValue(f"{path}={value!r} is an axis of a fleet: make one run for each of its values")
        whole = isinstance(self.batch, int) and not isinstance(self.batch, bool)
        if self.batch is not None and not (whole and self.batch >= 1):
            raise BadValue(f"batch must be a whole number of at least 1, got {self.batch!r}")

    def plain(self) -> dict[str, Any]:
        """This run as JSON can hold it; what was left out of a run is left out here."""
        data = {
            "rule": plain(self.rule), "seed": self.seed, "loss": dict(self.loss), "tags": plain(dict(self.tags)),
        }  # fmt: skip
        rest = {"model": dict(self.model), "data": dict(self.data), "batch": self.batch}
        return data | {name: plain(value) for name, value in rest.items() if value}

    @staticmethod
    def rebuild(data: Mapping[str, Any]) -> Run:
        """The run that :meth:`plain` wrote down."""
        return Run(
            cast(Rule, rebuild(data["rule"])), int(data["seed"]), dict(data["loss"]), dict(data["tags"]),
            dict(data.get("model", {})), dict(data.get("data", {})), data.get("batch"),
        )  # fmt: skip


@dataclass(frozen=True)
class Study:
    """A question, asked for: what kind of study, about which tasks and arms, by which protocol."""

    kind: str
    tasks: tuple[str, ...]
    arms: tuple[Mapping[str, Any], ...]
    protocol: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """This study as JSON can hold it."""
        return {
            "kind": self.kind, "tasks": list(self.tasks), "arms": [plain(dict(a)) for a in self.arms],
            "protocol": plain(dict(self.protocol)),
        }  # fmt: skip
