"""From what was given for each part to the data of a task: columns of tensors, a stream, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import BadTask
from . import data, forms, loaders
from .base import PARTS, Batch
from .forms import Raw, Roles

FIRST = 4
"""Examples of a stream that are looked at before it is read."""


@dataclass(frozen=True)
class Gathered:
    """The data of a task.

    Args:
        parts: columns of tensors for train, validation and test.
        stream: makes an iterator over training batches, where they are seen once; train then holds the first few.
        facts: names of classes, groups and columns, where there are some.
    """

    parts: dict[str, Batch]
    stream: Callable[[], Iterator[Batch]] | None
    facts: dict[str, Any]


def gather(train: Any, others: Mapping[str, Any], roles: Roles, dtype: torch.dtype, batch: int) -> Gathered:
    """The data of a task.

    Args:
        train: the training part.
        others: validation and test; what is None is split off from train.
        roles: which columns are what.
        dtype: the floating-point type in which a model is given its inputs.
        batch: examples in a training batch, and of a stream those that are put together.
    """
    given = {"train": train, **{part: value for part, value in others.items() if value is not None}}
    missing = [part for part in PARTS if part not in given]
    streamed = _stream(train, roles, batch, missing)
    raws = {
        part: data.named(part, value, roles)
        for part, value in given.items()
        if not streamed or part != "train"
    }
    if streamed is not None:
        raws = {"train": _first(streamed), **raws}
    data.check_split(raws["train"], missing)
    names = {role: forms.class_names(raws.values(), role) for role in ("target", "group")}
    whole = {part: data.tensors(part, _numbered(part, raw, names), dtype) for part, raw in raws.items()}
    data.agree(whole, dtype)
    facts: dict[str, Any] = {
        {"target": "classes", "group": "groups"}[role]: known for role, known in names.items() if known
    }
    tables = {part: forms.table_columns(part, t, roles) for part, t in given.items() if forms.is_table(t)}
    for part, columns in tables.items():
        if columns != tables.get("train"):
            raise BadTask(
                f"the {part} part is a table of {', '.join(columns)}, but train is "
                f"{'one of ' + ', '.join(tables['train']) if 'train' in tables else 'no table'}: all parts must be alike"
            )
        facts["columns"] = columns
    if streamed is None:
        return Gathered(data.split(whole), None, facts)
    first = whole["train"]

    def stream() -> Iterator[Batch]:
        for raw in streamed():
            piece = data.tensors("train", _numbered("train", raw, names), dtype)
            data.agree({"train": first, "streamed": piece}, dtype)
            yield piece

    return Gathered(whole, stream, facts)


def _stream(train: Any, roles: Roles, batch: int, missing: list[str]) -> Callable[[], Iterator[Raw]] | None:
    if not loaders.is_stream(train):
        return None
    if missing:
        raise BadTask(
            f"train is a stream, which is seen once, so that no {missing[0]} part can be split off from it: pass "
            f"{' and '.join(f'{part}=…' for part in missing)}, or give the IterableDataset a length and it is kept in "
            "memory"
        )
    for role in ("weight", "group"):
        own = getattr(roles, role)
        if own is not None and not isinstance(own, str):
            raise BadTask(
                f"train is a stream, so {role} must be the name of a column, got a {type(own).__name__}"
            )
    return loaders.stream(train, roles, batch)


def _first(stream: Callable[[], Iterator[Raw]]) -> Raw:
    """The first examples of a stream."""
    pieces: list[Raw] = []
    for piece in stream():
        pieces.append(piece)
        if sum(len(p["target"]) for p in pieces) >= FIRST:
            break
    forms.check_some("train", len(pieces))
    return loaders.joined(pieces)


def _numbered(part: str, raw: Raw, names: Mapping[str, list[str]]) -> Raw:
    for role, known in names.items():
        raw = forms.numbered(part, raw, role, known)
    return raw
