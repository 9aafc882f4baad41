"""Tables to columns of numbers, in three passes over chunks of rows, so that a table may be larger than memory.

The first pass looks at every column, the second takes means and deviations of the training part alone, the third
writes the rows, part after part, to mapped columns. Texts become one column for each category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ...errors import BadTask, BadValue, NotFound, nearest
from .. import forms
from .cache import Writer
from .data import split

Array: TypeAlias = np.ndarray[Any, Any]
Frame: TypeAlias = Callable[[], Iterator[dict[str, Array]]]
"""Makes a new iterator over chunks: columns by name, of numbers or of texts. NaN, infinity and None are missing."""

CATEGORIES = 64
"""A column of more different texts than this names things, and is no category."""
FEW = 20
"""Whole numbers of at most this many different values are classes, as a target."""
MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
TARGETS = (*forms.TARGETS, "class")


@dataclass(frozen=True)
class Options:
    """What is asked of a table.

    Args:
        target: the name of the target's column; left out, a column called target, label, class or y.
        drop: names of columns that are not to be used.
        missing: "refuse", or "fill": with the training part's mean for numbers, with a category of its own for texts.
        kind: of the target, "classes" or "numbers"; left out, texts and few whole numbers are classes.
    """

    target: str = ""
    drop: tuple[str, ...] = ()
    missing: str = "refuse"
    kind: str = ""

    def __post_init__(self) -> None:
        for name, known in (("missing", ("refuse", "fill")), ("kind", ("", "classes", "numbers"))):
            if getattr(self, name) not in known:
                choice = " or ".join(repr(one) for one in known if one)
                raise BadValue(f"{name} must be {choice} for a table, got {getattr(self, name)!r}")


@dataclass
class Seen:
    """What the first pass saw of a column."""

    rows: int = 0
    missing: int = 0
    first: int = 0
    numbers: bool = True
    texts: set[str] = field(default_factory=set)

    def look(self, values: Array) -> None:
        """See some more of the column."""
        gone, numbers = parsed(values)
        if gone.any() and not self.missing:
            self.first = self.rows + int(gone.argmax())
        self.rows, self.missing = self.rows + len(values), self.missing + int(gone.sum())
        self.numbers = self.numbers and numbers is not None
        if values.dtype == object and len(self.texts) <= CATEGORIES:
            self.texts.update(values[~gone].tolist())

    @property
    def categories(self) -> list[str]:
        """The different texts, in order."""
        return sorted(self.texts)


def build(writer: Writer, frame: Frame, options: Options) -> dict[str, Any]:
    """Write the columns X and y of a table, and give the facts: features, classes, and what was done."""
    seen, name, target = _looked(frame, options)
    features = {column: one for column, one in seen.items() if column != name and column not in options.drop}
    _refuse(features, options)
    y, about = _target(name, seen[name], target, options.kind)
    parts = {part: rows for part, (_, rows) in split({"train": y}).items()}
    trained = np.zeros(len(y), dtype=bool)
    trained[parts["train"]] = True
    scales = _scales(frame, features, trained)
    if "classes" not in about:
        mean, deviation = float(y[trained].mean()), float(y[trained].std()) or 1.0
        y = ((y - mean) / deviation).astype(np.float32)[:, None]
        about["target"] |= {"mean": mean, "deviation": deviation}
    order = np.concatenate(list(parts.values()))
    names = _write(writer, frame, features, scales, order)
    writer.column("y", y.shape, y.dtype)[:] = y[order]
    filled = {column: one.missing for column, one in features.items() if one.missing}
    sizes = {part: len(rows) for part, rows in parts.items()}
    return {"sizes": sizes, "features": names, "scaled": scales, "filled": filled, **about}


def _write(
    writer: Writer, frame: Frame, features: dict[str, Seen], scales: dict[str, dict[str, float]], order: Array
) -> list[str]:
    """Write X, its rows in ``order``; the names of its columns."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    names = [made for column, one in features.items() for made in _names(column, one)]
    X, at = writer.column("X", (len(order), len(names)), np.float32), 0
    for chunk in frame():
        made = np.column_stack([_encoded(chunk[c], one, scales.get(c)) for c, one in features.items()])
        X[place[at : at + len(made)]] = made
        at += len(made)
    return names


def _looked(frame: Frame, options: Options) -> tuple[dict[str, Seen], str, Array]:
    """What each column holds, the name of the target, and its values."""
    seen: dict[str, Seen] = {}
    values: list[Array] = []
    target = ""
    for chunk in frame():
        if not seen:
            target = _target_name(list(chunk), options.target)
            for name in options.drop:
                if name not in chunk or name == target:
                    rest = [column for column in chunk if column != target]
                    raise NotFound(f"there is no column {name!r} to drop; {nearest(name, rest)}")
        for name, column in chunk.items():
            seen.setdefault(name, Seen()).look(column)
        values.append(chunk[target].copy())  # a view would hold the whole chunk
    if not seen or not seen[target].rows:
        raise BadTask("the table has no rows: a task needs examples")
    return seen, target, np.concatenate(values)


def _target_name(names: list[str], asked: str) -> str:
    if asked and asked not in names:
        raise NotFound(f"there is no column {asked!r} for the target; {nearest(asked, names)}")
    found = [name for name in names if name.lower() in TARGETS]
    if not asked and len(found) != 1:
        raise NotFound(
            f"which column is the target? say target='…' (on the command line FILE:COLUMN); known: {', '.join(names)}"
        )
    return asked or found[0]


def _refuse(features: dict[str, Seen], options: Options) -> None:
    """Refuse, in words, features that cannot become numbers as they are."""
    if not features:
        raise BadTask("the table has no column but the target: nothing to learn from")
    lacking = {name: one for name, one in features.items() if one.missing}
    if lacking and options.missing == "refuse":
        name, one = max(lacking.items(), key=lambda item: item[1].missing)
        raise BadTask(
            f"{len(lacking)} of {len(features)} columns have missing values, most of all {name!r} ({one.missing} of "
            f"{one.rows}, the first in row {one.first + 1}): fill them yourself, or pass missing='fill' (the training "
            "part's mean for numbers, a category of its own for texts)"
        )
    for name, one in features.items():
        if one.missing == one.rows:
            raise BadTask(f"column {name!r} has no values at all: pass drop=[{name!r}]")
        if not one.numbers and len(one.texts) > CATEGORIES:
            raise BadTask(
                f"column {name!r} has more than {CATEGORIES} different texts, so it names things rather than kinds of "
                f"them: pass drop=[{name!r}]"
            )


def _target(name: str, seen: Seen, values: Array, kind: str) -> tuple[Array, dict[str, Any]]:
    """The target as class numbers, or as numbers; and what is said about it."""
    if seen.missing:
        raise BadTask(
            f"the target {name!r} has {seen.missing} of {seen.rows} values missing (the first in row {seen.first + 1}): "
            "leave those rows out"
        )
    if len(np.unique(values.astype(str))) < 2:
        raise BadTask(
            f"the target {name!r} is {values[0]} in all {seen.rows} rows, so there is nothing to learn: name another "
            "column, or add rows in which it differs"
        )
    if not seen.numbers and kind == "numbers":
        raise BadTask(f"the target {name!r} holds texts such as {seen.categories[0]!r}: it cannot be numbers")
    if not seen.numbers:
        classes, y = np.unique(values.astype(str), return_inverse=True)
        return y.astype(np.int64), {"target": {"name": name}, "classes": classes.tolist()}
    numbers = _numbers(values)
    different = np.unique(numbers)
    few = len(different) <= FEW and bool((different == np.round(different)).all())
    if kind == "classes" or (few and kind != "numbers"):
        y = np.searchsorted(different, numbers).astype(np.int64)
        return y, {"target": {"name": name}, "classes": [f"{value:g}" for value in different]}
    return numbers, {"target": {"name": name}}


# --- values ---------------------------------------------------------------------------------------------------


def parsed(values: Array) -> tuple[Array, Array | None]:
    """Where a column has no value, and the column as numbers, NaN there; None where some of it is text."""
    try:
        numbers = values.astype(np.float64)  # all are numbers, or "nan": the usual case, and the fast one
    except (ValueError, TypeError):
        gone = np.array([v is None or v.strip().lower() in MISSING for v in values], dtype=bool)
        try:
            numbers = np.where(gone, "nan", values).astype(np.float64)
        except ValueError:
            return gone, None
    gone = ~np.isfinite(numbers)
    return gone, np.where(gone, np.nan, numbers)


def _numbers(values: Array) -> Array:
    """A column that is known to be numbers."""
    _, numbers = parsed(values)
    assert numbers is not None
    return numbers


def _names(column: str, seen: Seen) -> list[str]:
    """What a column is called once it is numbers: two categories are one column of 0 and 1, more are one each."""
    if seen.numbers:
        return [column]
    shown = seen.categories + ["missing"] * bool(seen.missing)
    return [f"{column}={category}" for category in (shown[1:] if len(shown) == 2 else shown)]


def _encoded(values: Array, seen: Seen, scale: dict[str, float] | None) -> Array:
    """A chunk of a column as [rows, columns] of numbers; what is missing becomes the mean or its own category."""
    if scale is not None:
        numbers = (_numbers(values) - scale["mean"]) / scale["deviation"]
        return np.nan_to_num(numbers, nan=0.0)[:, None]
    known = {category: i for i, category in enumerate(seen.categories)}
    numbers = np.array([known.get(text, len(known)) for text in values])
    one_hot = (numbers[:, None] == np.arange(len(known) + bool(seen.missing))).astype(np.float32)
    return one_hot[:, 1:] if one_hot.shape[1] == 2 else one_hot


def _scales(frame: Frame, features: dict[str, Seen], train: Array) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of each column of numbers over the training rows, chunks joined pairwise."""
    sums = {name: (0, 0.0, 0.0) for name, one in features.items() if one.numbers}
    at = 0
    for chunk in frame():
        rows = train[at : at + len(next(iter(chunk.values())))]
        at += len(rows)
        for name, (count, mean, squares) in sums.items():
            values = _numbers(chunk[name])[rows]
            values = values[~np.isnan(values)]
            if not len(values):
                continue
            own, both = float(values.mean()), count + len(values)
            shift = own - mean
            with np.errstate(over="ignore"):
                within = float(((values - own) ** 2).sum())
            squares += within + shift * shift * count * len(values) / both
            if not math.isfinite(squares):
                raise BadTask(
                    f"the column {name!r} holds numbers as large as {np.abs(values).max():.3g}, whose spread is no finite "
                    "number: bring them to another unit, or to their logarithm"
                )
            sums[name] = (both, mean + shift * len(values) / both, squares)
    return {
        name: {"mean": mean, "deviation": math.sqrt(squares / max(count, 1)) or 1.0}
        for name, (count, mean, squares) in sums.items()
    }
