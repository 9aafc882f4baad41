"""What has been measured of a block so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .snapshot import Array, Snapshot


@dataclass
class Log:
    """What has been seen of a block so far: one column of numbers per series and evaluation."""

    died: np.ndarray[Any, np.dtype[np.int64]]
    steps: dict[str, list[int]] = field(default_factory=dict)
    values: dict[str, list[np.ndarray[Any, Any] | Tensor]] = field(default_factory=dict)

    def add(self, name: str, step: int, values: Tensor) -> None:
        """Note a measurement, [runs], after so many steps."""
        self.steps.setdefault(name, []).append(step)
        seen = values.double()
        self.values.setdefault(name, []).append(seen.numpy() if seen.device.type == "cpu" else seen)

    @staticmethod
    def of(held: Snapshot) -> Log:
        """What a snapshot says."""
        values = {name: list(held.arrays[f"series/{name}"].T) for name in held.series}
        return Log(held.arrays["died"].copy(), {n: at.tolist() for n, at in held.series.items()}, values)

    def arrays(self, count: int) -> dict[str, Array]:
        """The first ``count`` rows, as a snapshot holds them."""
        for measured in self.values.values():  # what was left on a device until it is needed
            measured[:] = [v.cpu().numpy() if isinstance(v, Tensor) else v for v in measured]
        found: dict[str, Array] = {"died": self.died[:count].copy()}
        return found | {f"series/{name}": np.stack(v, 1)[:count] for name, v in self.values.items()}
