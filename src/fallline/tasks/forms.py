"""What people have (a pair, a dict, a table) as named columns, and names of classes as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from ..errors import BadTask, NotFound, nearest

Raw: TypeAlias = dict[str, Any]
"""Columns by name, not yet tensors: inputs, inputs.0, inputs.image, target, weight, group."""

TARGETS = ("target", "label", "labels", "y")
"""What a target is called where nobody says its name."""


@dataclass(frozen=True)
class Roles:
    """Which columns are not inputs, by name; weight and group may also be arrays, a number for each example of train."""

    target: Any = None
    weight: Any = None
    group: Any = None


def named(part: str, given: Any, roles: Roles, *, collated: bool = False) -> Raw:
    """A pair, a dict or a table as named columns.

    Args:
        part: train, validation or test.
        given: (X, y), where X may be several arrays or a dict of them; a dict of columns; a table.
        roles: which columns are what.
        collated: whether this is a batch that a loader has put together: a list in it is then several inputs.
    """
    if is_table(given):
        return _of_table(part, given, roles)
    if isinstance(given, Mapping):
        return _of_dict(part, given, roles)
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        got = f"{len(given)} things" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
        raise BadTask(
            f"the {part} part must be (X, y), a dict or a table of named columns, a Dataset or a DataLoader; got {got}"
        )
    for role, name in vars(roles).items():
        if isinstance(name, str):
            raise BadTask(
                f"{role}={name!r} names a column, but the {part} part is a pair (X, y), whose columns have no names: "
                "pass a dict or a table of named columns"
            )
    return {**_inputs(given[0], given[1], collated=collated), "target": given[1]}


def check_some(part: str, examples: int) -> None:
    """Refuse a part without examples."""
    if not examples:
        raise BadTask(f"the {part} part is empty: a task needs at least one example in each part")


def _inputs(X: Any, y: Any, *, collated: bool) -> Raw:
    if isinstance(X, Mapping):
        return {f"inputs.{name}": values for name, values in X.items()}
    arrays = isinstance(X, (tuple, list)) and len(X) > 0 and all(getattr(x, "shape", ()) for x in X)
    targets = len(y) if hasattr(y, "__len__") and getattr(y, "shape", None) != () else 0
    if arrays and (
        collated or len(X) != targets
    ):  # as many arrays as targets: they are the examples, one by one
        return {f"inputs.{i}": x for i, x in enumerate(X)}
    return {"inputs": X}


def _of_dict(part: str, given: Mapping[Any, Any], roles: Roles) -> Raw:
    taken = _taken(part, list(given), roles)
    found = {role: _together([given[name] for name in names]) for role, names in taken.items()}
    rest = _rest(part, list(given), taken)
    return {**{f"inputs.{name}": given[name] for name in rest}, **found}


def _taken(part: str, names: list[Any], roles: Roles) -> dict[str, list[Any]]:
    """The names of the columns that are target, weight and group."""
    target = roles.target
    if target is None:
        target = next((name for name in TARGETS if name in names), None)
    if target is None:
        raise BadTask(
            f"no column of the {part} part is called {', '.join(TARGETS[:-1])} or {TARGETS[-1]}: say which one is the "
            f"target by target=…; there are {', '.join(map(str, names))}"
        )
    taken = {"target": list(target) if isinstance(target, (list, tuple)) else [target]}
    for role in ("weight", "group"):
        own = getattr(roles, role)
        if isinstance(own, str) and (own in names or part == "train"):
            taken[role] = [own]
    for role, wanted in taken.items():
        for name in wanted:
            if name not in names:
                there = nearest(str(name), map(str, names))
                raise NotFound(f"the {part} part has no column {name!r} for {role}={name!r}; {there}")
    return taken


def _rest(part: str, names: list[Any], taken: dict[str, list[Any]]) -> list[Any]:
    used = [name for wanted in taken.values() for name in wanted]
    rest = [name for name in names if name not in used]
    if not rest:
        raise BadTask(f"the {part} part has no column left for the inputs beside {', '.join(map(str, used))}")
    return rest


def _together(columns: list[Any]) -> Any:
    """One column as it is; several side by side."""
    return columns[0] if len(columns) == 1 else np.stack([np.asarray(_array(c)) for c in columns], 1)


def _array(given: Any) -> Any:
    return given.to_numpy() if hasattr(given, "to_numpy") else given


# --- tables -----------------------------------------------------------------------------------------------


def is_table(given: Any) -> bool:
    """Whether something is a data frame, of whatever library: it has named columns that become arrays."""
    return hasattr(given, "columns") and hasattr(given, "to_numpy")


def table_columns(part: str, given: Any, roles: Roles) -> list[str]:
    """The names of a table's columns that are inputs, in their order."""
    names = list(given.columns)
    return [str(name) for name in _rest(part, names, _taken(part, names, roles))]


def _of_table(part: str, table: Any, roles: Roles) -> Raw:
    """The columns of numbers side by side as one input [rows, columns], as floats."""
    names = list(table.columns)
    taken = _taken(part, names, roles)
    found = {role: _together([table[name].to_numpy() for name in names]) for role, names in taken.items()}
    rest = [_numbers(part, name, table[name]) for name in _rest(part, names, taken)]
    return {"inputs": np.stack(rest, 1), **found}


def _numbers(part: str, name: Any, column: Any) -> np.ndarray[Any, Any]:
    values = np.asarray(column.to_numpy())
    if values.dtype.kind not in "biuf":
        strange = next((v for v in values if not isinstance(v, Real)), None)
        if strange is not None or values.dtype.kind != "O":
            raise BadTask(
                f"the column {name!r} of the {part} part holds {str(strange)!r}, and a model takes numbers: leave the "
                f"column out, or encode it, as in pandas.get_dummies(table, columns=[{name!r}])"
            )
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    missing = np.isnan(values)
    if missing.any():
        raise BadTask(
            f"the column {name!r} of the {part} part lacks {int(missing.sum())} of {len(values)} values (the first in "
            f"row {int(missing.argmax())}): fill or drop them before training"
        )
    return values


# --- names of classes -------------------------------------------------------------------------------------


def class_names(parts: Iterable[Raw], role: str) -> list[str]:
    """The names in a column, over all parts, sorted; none where it holds numbers."""
    texts = [text for raw in parts if (text := _text(raw.get(role))) is not None]
    return sorted(set().union(*(np.unique(text).tolist() for text in texts)))


def numbered(part: str, raw: Raw, role: str, names: Sequence[str]) -> Raw:
    """Columns with the numbers of names in place of the names: 0 for the first of ``names``."""
    text = _text(raw.get(role))
    if text is None:
        return raw
    unknown = sorted(set(np.unique(text).tolist()) - set(names))
    if unknown:
        raise BadTask(
            f"the {role} of the {part} part is {unknown[0]!r} in some examples, but the names known before a stream is "
            f"read are {', '.join(names)}: give each at least one example in validation or test"
        )
    return {**raw, role: np.searchsorted(np.array(names), text)}


def _text(values: Any) -> np.ndarray[Any, Any] | None:
    """Names as an array of text; None for numbers."""
    values = _array(values)
    if values is None or isinstance(values, Tensor):
        return None
    if isinstance(values, (list, tuple)):
        if not (values and isinstance(values[0], str)):
            return None
        values = np.array(values, dtype=object)
    if getattr(values, "dtype", None) is None or values.dtype.kind not in "OUST":
        return None
    if values.dtype.kind == "O" and any(isinstance(v, str) for v in values.flat):
        strange = [v for v in values.flat if not isinstance(v, str)]
        if strange:
            raise BadTask(
                f"a column of class names holds {len(strange)} values that are not text, such as {strange[0]!r}: drop "
                "those examples, or give them a name"
            )
        return values.astype(str)
    return None if values.dtype.kind == "O" else values.astype(str)
