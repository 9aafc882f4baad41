"""From what people have (arrays, tables, dicts, a Dataset, a DataLoader) to columns of tensors in fixed parts.

Data is not copied without need: a tensor or array of the right type is shared, and a memory-mapped array stays on
disk. What is stored in another type is converted batch by batch (:func:`settled`), by one rule: floats become the
task's ``dtype``; uint8 inputs of three axes or more are pictures, and become floats from 0 to 255; all other whole
numbers are indices or classes, and become int64.
"""

from __future__ import annotations

import hashlib
import mmap
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ..errors import BadTask
from . import forms, loaders, splitting
from .base import PARTS, Batch
from .forms import Raw, Roles

SPLIT_SEED = 0
SHARE = 0.2
COPIED = 1 << 30
"""Bytes of a memory-mapped array above which no part is split off from it, as that would read it into memory."""

_PIECE = 1 << 22  # numbers that are looked at together


def columns(part: str, given: Any, dtype: torch.dtype, roles: Roles = Roles()) -> Batch:  # noqa: B008
    """One part as {"inputs": [n, …], "target": [n, …]}, checked."""
    return tensors(part, named(part, given, roles), dtype)


def named(part: str, given: Any, roles: Roles) -> Raw:
    """One part as columns by name, each still what it was; a loader's examples are put together."""
    if isinstance(given, TensorDataset):
        given = given.tensors
    if isinstance(given, (Dataset, DataLoader)):
        found = loaders.collated(part, given, roles)
    elif isinstance(given, Iterator):
        raise BadTask(
            f"the {part} part is a {type(given).__name__}, which can be read only once: pass the function that makes it"
        )
    else:
        found = forms.named(part, given, roles)
    for name in ("weight", "group"):
        own = getattr(roles, name)
        if own is not None and not isinstance(own, str) and part == "train":
            found[name] = own
    return found


def tensors(part: str, raw: Raw, dtype: torch.dtype) -> Batch:
    """Named columns as tensors, checked: as many examples in each, and no NaN."""
    found = {name: _tensor(part, name, values, dtype) for name, values in raw.items()}
    first, inputs = next((name, len(column)) for name, column in found.items() if is_input(name))
    for name, column in found.items():
        if len(column) != inputs and is_input(name):
            raise BadTask(
                f"the {part} part has {inputs} examples in {first} and {len(column)} in {name}: they must be equally many"
            )
        if len(column) != inputs:
            raise BadTask(
                f"the {part} part has {inputs} inputs and {len(column)} {name}s: they must be equally many"
            )
    forms.check_some(part, inputs)
    return found


def is_input(name: str) -> bool:
    """Whether a column is what the model is given."""
    return name == "inputs" or name.startswith("inputs.")


def _called(name: str) -> str:
    """What a column is called in a sentence."""
    return {"inputs": "X", "target": "y"}.get(name, name.removeprefix("inputs."))


# --- tensors ----------------------------------------------------------------------------------------------


def _tensor(part: str, name: str, given: Any, dtype: torch.dtype) -> Tensor:
    if hasattr(given, "to_numpy"):  # a table's column or frame
        given = given.to_numpy()
    said = _called(name)
    try:
        tensor = given.detach() if isinstance(given, Tensor) else _shared(np.asanyarray(given))
    except (TypeError, ValueError) as error:
        raise BadTask(f"{said} of the {part} part cannot become a tensor of numbers: {error}") from error
    if tensor.is_complex():
        raise BadTask(
            f"{said} of the {part} part holds complex numbers: pass real and imaginary parts as columns"
        )
    if tensor.ndim == 0:
        raise BadTask(f"{said} of the {part} part must have examples on its first axis, got a single number")
    kind = seen_as(name, tensor, dtype)
    if tensor.is_floating_point():
        bad = torch.cat(
            [_bad(piece.to(kind)) for piece in _pieces(tensor)]
        )  # in which a number may be too large
        if bad.any():
            raise BadTask(
                f"{said} of the {part} part has {int(bad.sum())} of {len(bad)} examples with NaN or infinite values "
                f"(the first is number {int(bad.nonzero()[0])}) in {dtype}: fill or drop them before training"
            )
    picture = tensor.dtype == torch.uint8 and kind == dtype
    return tensor if picture or mapped(given) else tensor.to(kind)


def _shared(array: np.ndarray[Any, Any]) -> Tensor:
    """An array as a tensor over the same memory, where torch can have it so."""
    backwards = any(stride < 0 for stride in array.strides)
    if backwards or not (array.flags.c_contiguous or mapped(array)):
        array = array.copy(order="C")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The given NumPy array is not writable"
        )  # nobody writes to it
        return torch.as_tensor(array)


def mapped(given: Any) -> bool:
    """Whether an array lies in a file, or is a view of one that does."""
    while given is not None and not isinstance(given, (np.memmap, mmap.mmap)):
        given = getattr(given, "base", None) if isinstance(given, (np.ndarray, memoryview)) else None
    return given is not None


def _bad(piece: Tensor) -> Tensor:
    """Which examples hold NaN or infinity."""
    return ~torch.isfinite(piece).flatten(1).all(1) if piece.ndim > 1 else ~torch.isfinite(piece)


def _pieces(column: Tensor) -> Iterator[Tensor]:
    """A column a few examples after another, so that looking at all of it needs little memory."""
    rows = max(1, _PIECE // max(1, column[:1].numel()))
    yield from (column[i : i + rows] for i in range(0, max(1, len(column)), rows))


def looked_at(columns: Batch, dtype: torch.dtype) -> Iterator[Batch]:
    """All columns but the inputs, settled, a piece after another; of weights, only whether they can be."""
    rest = {name: column for name, column in columns.items() if not is_input(name)}
    if "weight" in rest and bool(
        rest["weight"].sum() > 0
    ):  # or a piece without weight would look like all without
        rest["weight"] = torch.where(rest["weight"] < 0, rest["weight"], 1)
    rows = max(1, _PIECE // max(column[:1].numel() for column in rest.values()))
    for i in range(0, len(rest["target"]), rows):
        yield settled({name: column[i : i + rows] for name, column in rest.items()}, dtype)


def seen_as(name: str, column: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type in which a batch of a column is given to model and loss."""
    picture = is_input(name) and column.dtype == torch.uint8 and column.ndim > 2
    return dtype if picture or column.is_floating_point() or name == "weight" else torch.int64


def settled(batch: Batch, dtype: torch.dtype) -> Batch:
    """A batch in the types that model and loss are given."""
    return {name: column.to(seen_as(name, column, dtype)) for name, column in batch.items()}


def is_classes(target: Tensor) -> bool:
    """Whether a target is class numbers, one for each example or several."""
    return not target.is_floating_point()


# --- parts ------------------------------------------------------------------------------------------------


def agree(parts: Mapping[str, Batch], dtype: torch.dtype) -> None:
    """Refuse parts whose examples differ in columns, shape or type from those of train.

    Weights and groups may be for training only: a loss that needs them to judge will say so.
    """
    train = parts["train"]
    for part, part_columns in parts.items():
        lacks, more = set(train) - set(part_columns) - {"weight", "group"}, set(part_columns) - set(train)
        if lacks or more:
            raise BadTask(
                f"the {part} part has {', '.join(part_columns)}, but train has {', '.join(train)}: all parts must be alike"
            )
        for name, column in part_columns.items():
            first = train[name]
            kinds = seen_as(name, column, dtype), seen_as(name, first, dtype)
            if column.shape[1:] != first.shape[1:] or kinds[0] != kinds[1]:
                raise BadTask(
                    f"the {name} of an example is {list(column.shape[1:])} of {kinds[0]} in the {part} part, but "
                    f"{list(first.shape[1:])} of {kinds[1]} in train: all parts must be alike"
                )


def check_split(raw: Raw, missing: list[str]) -> None:
    """Refuse to split off parts from what is too large to be copied."""
    for name, values in raw.items():
        if missing and mapped(values) and values.nbytes > COPIED:
            raise BadTask(
                f"{_called(name)} of the train part lies in a file of {values.nbytes / (1 << 30):.1f} GiB, and splitting "
                f"off a {missing[0]} part would read it into memory: pass {' and '.join(f'{m}=…' for m in missing)}, "
                "such as slices X[:n]"
            )


def split(given: dict[str, Batch]) -> dict[str, Batch]:
    """Split off the parts that are missing, by a fixed seed, stratified where the target is classes."""
    parts = dict(given)
    whole = len(parts["train"]["target"])
    for part in reversed(PARTS[1:]):
        if part not in parts:
            parts["train"], parts[part] = _split_off(part, parts["train"], round(SHARE * whole))
    return {part: parts[part] for part in PARTS}


def _split_off(part: str, train: Batch, size: int) -> tuple[Batch, Batch]:
    target, n = train["target"], len(train["target"])
    if size < 1 or n - size < 1:
        few = "1 example is" if n == 1 else f"{n} examples are"
        raise BadTask(f"{few} too few to split off a {part} part of {SHARE:.0%}: pass {part}=(X, y)")
    labels = target.numpy() if is_classes(target) and target.ndim == 1 else None
    rest, taken = splitting.apart(n, size, SPLIT_SEED, labels)
    return {k: v[rest] for k, v in train.items()}, {k: v[taken] for k, v in train.items()}


def fingerprint(parts: Mapping[str, Batch], wanted: tuple[str, ...]) -> str:
    """A short hash of data, to tell whether two tasks or studies saw the same examples."""
    digest = hashlib.sha256()
    for part in wanted:
        for name, column in sorted(parts[part].items()):
            digest.update(f"{part}/{name}/{column.dtype}/{tuple(column.shape)}".encode())
            for piece in _pieces(column):
                numbers: Any = piece.contiguous().numpy()
                digest.update(numbers)
    return digest.hexdigest()[:16]
