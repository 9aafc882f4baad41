"""Several processes that train one model together, started by torchrun."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import BadValue


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is, and where it trains.

    Args:
        rank: 0 for the process that writes and prints.
        count: how many processes train this model.
        device: where this one does.
    """

    rank: int
    count: int
    device: torch.device

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes."""
        return self._agreed(values, dist.all_reduce)

    def first(self, values: Sequence[float]) -> list[float]:
        """What process 0 says."""
        return self._agreed(values, lambda t: dist.broadcast(t, 0))

    def _agreed(self, values: Sequence[float], how: Callable[[Tensor], object]) -> list[float]:
        if self.count == 1:
            return list(values)
        kind = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=kind, device=self.device)
        how(tensor)
        return tensor.tolist()


def alone() -> bool:
    """Whether this process writes and prints: it is the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def ranks(device: str | None) -> Ranks:
    """The processes that torchrun started (it sets RANK and WORLD_SIZE), or this one alone.

    Args:
        device: such as ``cpu``, ``cuda`` or ``cuda:1``; left out, a GPU where there is one.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    place = _device(device, int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else 0)
    if count == 1:
        return Ranks(0, 1, place)
    if not dist.is_initialized():  # once in a process: a second group would find the addresses of the first
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Ranks(rank, count, place)


def _leave() -> None:
    """Leave the group together: one whose partner has gone, or that outlives the group, may crash in its own threads."""
    gc.collect()  # wrappers of models hold the group
    with suppress(RuntimeError, ValueError):
        if dist.get_backend() == "gloo":
            dist.monitored_barrier(timeout=timedelta(seconds=10))
    dist.destroy_process_group()


def _device(asked: str | None, local: int) -> torch.device:
    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(asked)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise BadValue(
            f"device={asked!r} cannot be used here ({reason}): leave it out, or take cpu, or cuda where there is a GPU"
        ) from None
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    return place
