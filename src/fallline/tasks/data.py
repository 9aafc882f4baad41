"""From what people have (arrays, tensors, a Dataset, a DataLoader) to columns of tensors in fixed parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from ..errors import BadTask
from .base import PARTS, Batch

SPLIT_SEED = 0
SHARE = 0.2


def columns(part: str, given: Any, dtype: torch.dtype) -> Batch:
    """One part as {"inputs": [n, …], "target": [n, …]}, checked."""
    if isinstance(given, DataLoader):
        given = _collated(part, given)
    elif isinstance(given, TensorDataset):
        given = given.tensors
    elif isinstance(given, Dataset):
        given = _collated(part, DataLoader(given, batch_size=256))
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        got = f"{len(given)} things" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
        raise BadTask(f"the {part} part must be (X, y), a Dataset or a DataLoader of such pairs; got {got}")
    inputs, target = (_tensor(part, name, t, dtype) for name, t in zip(("X", "y"), given, strict=True))
    if len(inputs) != len(target):
        raise BadTask(
            f"the {part} part has {len(inputs)} inputs and {len(target)} targets: they must be equally many"
        )
    if len(inputs) == 0:
        raise BadTask(f"the {part} part is empty: a task needs at least one example in each part")
    return {"inputs": inputs, "target": target}


def batch_size(given: Any) -> int | None:
    """How many examples a loader puts into a batch, where it says so."""
    if not isinstance(given, DataLoader):
        return None
    return given.batch_size or getattr(given.batch_sampler, "batch_size", None)


def _collated(part: str, loader: DataLoader[Any]) -> tuple[Tensor, Tensor]:
    """All examples of a loader, in the order of its dataset: shuffling and batching are the fleet's."""
    if not isinstance(loader.dataset, IterableDataset):
        chosen = _chosen(part, loader)
        size = None if loader.batch_sampler is None else loader.batch_size or 256
        loader = DataLoader(chosen, batch_size=size, collate_fn=loader.collate_fn)
    try:
        pairs = list(loader)
        if not pairs:
            raise BadTask(f"the {part} part is empty: a task needs at least one example in each part")
        if not all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            raise BadTask(
                f"each example of the {part} part must be a pair (x, y), got {type(pairs[0]).__name__}"
            )
        both = [(torch.as_tensor(x), torch.as_tensor(y)) for x, y in pairs]
        if both[0][1].ndim == 0:  # a loader that makes no batches gives examples one by one
            both = [(x.unsqueeze(0), y.unsqueeze(0)) for x, y in both]
        inputs, targets = zip(*both, strict=True)
        return torch.cat(inputs), torch.cat(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BadTask):
            raise
        raise BadTask(f"the examples of the {part} part cannot be put together: {error}") from error


def _chosen(part: str, loader: DataLoader[Any]) -> Dataset[Any]:
    """The examples that a loader draws from: a subset where its sampler chooses one."""
    sampler, batches = loader.sampler, loader.batch_sampler
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, sorted(sampler.indices))
    plain = isinstance(sampler, (RandomSampler, SequentialSampler))
    if not plain or not (batches is None or isinstance(batches, BatchSampler)):
        named = type(sampler if not plain else batches).__name__
        raise BadTask(
            f"the DataLoader of the {part} part draws by a {named}, but a fleet shuffles by itself, each example once "
            "an epoch: pass the dataset alone, or a Subset of it"
        )
    return loader.dataset


def _tensor(part: str, name: str, given: Any, dtype: torch.dtype) -> Tensor:
    if hasattr(given, "to_numpy"):  # a table's column or frame
        given = given.to_numpy()
    try:
        if not isinstance(given, Tensor):
            given = np.require(given, requirements=["C", "W"])
        tensor = torch.as_tensor(given).detach()
    except (TypeError, ValueError) as error:
        raise BadTask(f"{name} of the {part} part cannot become a tensor of numbers: {error}") from error
    if tensor.is_complex():
        raise BadTask(
            f"{name} of the {part} part holds complex numbers: pass real and imaginary parts as columns"
        )
    if tensor.ndim == 0:
        raise BadTask(f"{name} of the {part} part must have examples on its first axis, got a single number")
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)  # in which a number may be too large
        bad = ~torch.isfinite(tensor).flatten(1).all(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
        if bad.any():
            raise BadTask(
                f"{name} of the {part} part has {int(bad.sum())} of {len(bad)} examples with NaN or infinite values "
                f"(the first is number {int(bad.nonzero()[0])}) in {dtype}: fill or drop them before training"
            )
        return tensor
    return tensor.to(torch.int64)


def is_classes(target: Tensor) -> bool:
    """Whether a target is class numbers, one for each example or several."""
    return not target.is_floating_point()


def agree(parts: dict[str, Batch]) -> None:
    """Refuse parts whose examples differ in shape or type from those of train."""
    for part, part_columns in parts.items():
        for name, column in part_columns.items():
            shape, first = column.shape[1:], parts["train"][name]
            if shape != first.shape[1:] or column.dtype != first.dtype:
                raise BadTask(
                    f"the {name} of an example is {list(shape)} of {column.dtype} in the {part} part, but "
                    f"{list(first.shape[1:])} of {first.dtype} in train: all parts must be alike"
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
    from sklearn.model_selection import train_test_split

    target, n = train["target"], len(train["target"])
    if size < 1 or n - size < 1:
        raise BadTask(
            f"{n} examples are too few to split off a {part} part of {SHARE:.0%}: pass {part}=(X, y)"
        )
    labels = target.numpy() if is_classes(target) and target.ndim == 1 else None
    if labels is not None and (np.unique(labels, return_counts=True)[1] == 1).any():
        labels = None  # a class with one member cannot be in both parts
    try:
        rest, taken = train_test_split(np.arange(n), test_size=size, random_state=SPLIT_SEED, stratify=labels)
    except ValueError:  # fewer places than classes
        rest, taken = train_test_split(np.arange(n), test_size=size, random_state=SPLIT_SEED)
    rest, taken = np.sort(rest), np.sort(taken)
    return {k: v[rest] for k, v in train.items()}, {k: v[taken] for k, v in train.items()}
