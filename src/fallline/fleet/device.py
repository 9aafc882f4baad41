"""Where a fleet trains: the devices that can be asked for, and what lies on one beside the runs' own variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .. import rng
from ..errors import BadValue
from ..tasks.base import Batch, Task

AT_ONCE = 1 << 24
"""Keys that are sorted at once where orders of examples are drawn."""


def place(asked: str) -> torch.device:
    """The device of a name: cpu, cuda (the current GPU) or cuda:1.

    Raises:
        BadValue: where it is unknown, or not there.

    >>> place("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError):
        device = torch.device("meta")  # which nobody trains on
    if device.type not in ("cpu", "cuda"):
        raise BadValue(
            f"device must be auto, cpu, cuda or cuda:1 (a GPU by its number), got {asked!r}: auto takes a GPU where that "
            "is faster"
        )
    if device.type == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        build = "is a build for GPUs" if torch.version.cuda else "is a build without CUDA"
        raise BadValue(
            f"device={asked!r} needs a GPU, and torch finds none here (torch {torch.__version__} {build}): take cpu, or "
            "auto, which takes a GPU where there is one"
        )
    number, count = torch.cuda.current_device() if device.index is None else device.index, gpus()
    if number >= count:
        raise BadValue(
            f"device={asked!r} is not there: the GPUs of this machine are cuda:0 to cuda:{count - 1}, so take one of them"
        )
    return torch.device("cuda", number)


def gpus() -> int:
    """How many GPUs torch can use."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def name(device: torch.device) -> str:
    """What a device is called: of a GPU its model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def settled(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, streams and graphs are those of this GPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def made_on(device: torch.device) -> Iterator[None]:
    """Inside, tensors that a model makes without naming a device are made on this one."""
    if device.type == "cpu":
        yield
        return
    with device, _NothingHidden():
        yield


class _NothingHidden(TorchFunctionMode):
    """Takes the norms of torch in place of cuDNN's, which write to running averages and do not say so.

    It sees them inside of ``rng.Noise``, which takes torch's functions apart.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.batch_norm, torch.instance_norm):
            args = (*args[:8], False)
        return func(*args, **(kwargs or {}))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread inside, in a worker as in this process, so that a block gives the same numbers here and there."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def moved(tree: Any, device: torch.device) -> Any:
    """The same tree of tensors on a device."""
    return pytree.tree_map(lambda t: t.to(device), tree)


# --- what all runs share ----------------------------------------------------------------------------------


class Shelf:
    """The data and the frozen weights of tasks, on each device once, however many blocks and variants use them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def tensor(self, t: Tensor, device: torch.device) -> Tensor:
        """A tensor on a device."""
        if t.device == device:
            return t
        key = id(t), device
        if key not in self._kept:
            self._kept[key] = t, t.detach().to(device)  # the first is held, so that its id stays its own
        return self._kept[key][1]

    def columns(self, columns: Mapping[str, Tensor], device: torch.device) -> Batch:
        """Columns of data on a device."""
        return {k: self.tensor(column, device) for k, column in columns.items()}

    @contextmanager
    def frozen(self, task: Task, device: torch.device) -> Iterator[None]:
        """Inside, the weights of a task that all of its runs share are on a device."""
        whole = task.module
        named = [] if whole is None else list(whole.parameters())
        fixed = [(t, t.data) for t in named if not t.requires_grad and t.device != device]
        for t, _ in fixed:
            t.data = self.tensor(t, device)
        try:
            yield
        finally:
            for t, there in fixed:
                t.data = there


# --- the order of the examples ----------------------------------------------------------------------------


class Order:
    """Which examples each run sees at each step, drawn on a device: the numbers that ``feed.Order`` draws.

    Args:
        seeds: of the runs.
        examples: how many examples each run has.
        batch: how many it sees at a step.
        rows: for each run the rows of the columns that are its examples; None for all.
        device: where the numbers are drawn and stay.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        examples: int,
        batch: int,
        rows: Sequence[np.ndarray[Any, Any] | None],
        device: torch.device,
    ) -> None:
        own = list(dict.fromkeys(seeds))
        self.examples, self.batch, self.device = examples, min(batch, examples), device
        self.keys = torch.tensor([rng.seed_for(seed, "order") for seed in own], device=device)
        places = {seed: i for i, seed in enumerate(own)}
        self.place = torch.tensor([places[seed] for seed in seeds], device=device)
        self.rows = None
        if any(chosen is not None for chosen in rows):
            every = np.arange(examples)
            table = np.stack([every if chosen is None else chosen for chosen in rows])
            self.rows = torch.from_numpy(table).to(device)

    def between(self, start: int, stop: int) -> Tensor:
        """Numbers of examples, [steps, runs, batch]."""
        if not self.examples:
            return torch.zeros(stop - start, len(self.place), 0, dtype=torch.int64, device=self.device)
        first, last = start * self.batch // self.examples, (stop * self.batch - 1) // self.examples
        epochs = torch.arange(first, last + 1, device=self.device)
        offset, count = start * self.batch - first * self.examples, (stop - start) * self.batch
        some = max(1, AT_ONCE // (len(epochs) * self.examples))
        pieces = [self._drawn(keys, epochs)[:, offset : offset + count] for keys in self.keys.split(some)]
        chosen = torch.cat(pieces)[self.place]
        if self.rows is not None:
            chosen = self.rows.gather(1, chosen)
        return chosen.reshape(len(self.place), stop - start, self.batch).transpose(0, 1).contiguous()

    def _drawn(self, keys: Tensor, epochs: Tensor) -> Tensor:
        """The examples in the order of some epochs, one after another: [seeds, epochs · examples]."""
        each = rng.fold(keys[:, None], epochs)[..., None]
        drawn = rng.fold(each, torch.arange(self.examples, device=self.device))
        return torch.argsort(drawn, dim=-1, stable=True).flatten(1)
