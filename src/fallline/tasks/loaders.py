"""From a Dataset or a DataLoader to named columns: all of them at once, or as a stream that is seen once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    WeightedRandomSampler,
)

from .. import rng
from ..errors import BadTask
from . import forms
from .forms import Raw, Roles


def batch_size(given: Any) -> int | None:
    """How many examples a loader puts into a batch, where it says so."""
    if not isinstance(given, DataLoader):
        return None
    return given.batch_size or getattr(given.batch_sampler, "batch_size", None)


def collated(part: str, given: Dataset[Any] | DataLoader[Any], roles: Roles) -> Raw:
    """All examples of a loader, in the order of its dataset: shuffling and batching are the fleet's."""
    loader = given if isinstance(given, DataLoader) else DataLoader(given, batch_size=256)
    if not isinstance(loader.dataset, IterableDataset):
        chosen = _chosen(part, loader)
        size = None if loader.batch_sampler is None else loader.batch_size or 256
        loader = DataLoader(chosen, batch_size=size, collate_fn=loader.collate_fn)
    try:
        pieces = [_piece(part, item, roles)[0] for item in _repeatable(loader)]
        forms.check_some(part, len(pieces))
        return joined(pieces)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, BadTask):
            raise
        raise BadTask(f"the examples of the {part} part cannot be put together: {error}") from error


def joined(pieces: Sequence[Raw]) -> Raw:
    """One piece of data after another."""
    columns = {name: [piece[name] for piece in pieces] for name in pieces[0]}
    return {k: torch.cat(c) if isinstance(c[0], Tensor) else np.concatenate(c) for k, c in columns.items()}


def _piece(part: str, item: Any, roles: Roles) -> tuple[Raw, bool]:
    """What a loader gives as named columns, and whether it was a single example and no batch."""
    pair = isinstance(item, (tuple, list)) and len(item) == 2
    if not (pair or isinstance(item, Mapping)):
        raise BadTask(
            f"each example of the {part} part must be a pair (x, y) or a dict, got a {type(item).__name__}"
        )
    raw = forms.named(part, item, roles, collated=True)
    one = isinstance(raw["target"], str) or np.ndim(raw["target"]) == 0
    found = {name: _values(values) for name, values in raw.items()}
    return ({name: values[None] for name, values in found.items()} if one else found), one


def _values(given: Any) -> Any:
    text = isinstance(given, str) or (isinstance(given, (list, tuple)) and isinstance(given[0], str))
    return np.array(given, dtype=object) if text else torch.as_tensor(given)


def _chosen(part: str, loader: DataLoader[Any]) -> Dataset[Any]:
    """The examples that a loader draws from: a subset where its sampler chooses one."""
    sampler, batches = loader.sampler, loader.batch_sampler
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(loader.dataset, sorted(sampler.indices))
    plain = isinstance(sampler, (RandomSampler, SequentialSampler))
    if not plain or not (batches is None or isinstance(batches, BatchSampler)):
        uneven = (
            ", with weight=…, a number for each example" if isinstance(sampler, WeightedRandomSampler) else ""
        )
        raise BadTask(
            f"the DataLoader of the {part} part draws by a {type(sampler if not plain else batches).__name__}, but a "
            f"fleet shuffles by itself, each example once an epoch: pass the dataset alone{uneven}, or a Subset of it"
        )
    return loader.dataset


# --- streams ----------------------------------------------------------------------------------------------


def is_stream(given: Any) -> bool:
    """Whether data can only be seen in order: a function that makes an iterator, or an IterableDataset of no length."""
    given = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(given, Dataset):
        return isinstance(given, IterableDataset) and not hasattr(given, "__len__")
    return callable(given)


def stream(given: Any, roles: Roles, batch: int) -> Callable[[], Iterator[Raw]]:
    """A function that reads a stream from its beginning, as named columns of one or more examples.

    A function gives batches, or single examples, which are put together; so does an IterableDataset, always of single
    examples. What a stream draws from torch's generator is the same each time it is read.
    """
    if isinstance(given, DataLoader):
        loader = given
    elif isinstance(given, IterableDataset):
        loader = DataLoader(given, batch_size=batch)
    else:
        first = next(_repeatable(_Made(given)), None)
        single = first is not None and _piece("train", first, roles)[1]
        loader = DataLoader(_Made(given), batch_size=batch if single else None)

    def read() -> Iterator[Raw]:
        for item in _repeatable(loader):
            yield _piece("train", item, roles)[0]

    return read


class _Made(IterableDataset[Any]):
    """What a function makes, from the beginning each time."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        made = self.make()
        if not isinstance(made, Iterable) or isinstance(made, (tuple, list)):
            raise BadTask(
                f"a function as the train part must make an iterator over batches or examples, got a "
                f"{type(made).__name__}: use yield in it, or pass what it returns"
            )
        return iter(made)


def _repeatable(source: Iterable[Any]) -> Iterator[Any]:
    """What a source gives, where its draws from torch's generator are its own: the same each time, and of no other."""
    with rng.seeded(0):
        iterator, state = iter(source), torch.random.get_rng_state()
    while True:
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(state)
            try:
                item = next(iterator)
            except StopIteration:
                return
            state = torch.random.get_rng_state()
        yield item
