"""Where runs stand between two steps: plain arrays, row by row, that can be kept, regrouped and gone on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Outcome, Record, Series
from ..specs import Run

Array = NDArray[Any]
PARAMS = "params/"
"""How the names of parameters begin among a snapshot's arrays."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Runs of one program after the same number of steps.

    A run goes on from its row to the same numbers, bit for bit, whatever rows stand beside it.

    Args:
        runs: the runs, a row of each array for each.
        step: steps done.
        arrays: by name, [runs, …]: parameters, buffers, the rule's state, what was measured so far, and for each run
            the step at which it ``died``, -1 while it lives.
        series: for each measured series the steps at which it was measured, [k]; its values are in ``arrays``.
    """

    runs: tuple[Run, ...]
    step: int
    arrays: Mapping[str, Array]
    series: Mapping[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.runs)

    def take(self, rows: Sequence[int]) -> Snapshot:
        """Some rows, in this order; a row may come twice."""
        chosen = list(rows)
        arrays = {name: array[chosen] for name, array in self.arrays.items()}
        return replace(self, runs=tuple(self.runs[i] for i in chosen), arrays=arrays)

    def renamed(self, runs: Sequence[Run]) -> Snapshot:
        """The same states as states of other runs, which go on with their own numbers, order and noise."""
        return replace(self, runs=tuple(runs))

    def died(self, i: int) -> int:
        """The step at which a run left the finite numbers, -1 while it has not."""
        return int(self.arrays["died"][i])

    def of(self, i: int) -> dict[str, Series]:
        """What was measured of a run; of a diverged one, up to the last point before it left the finite numbers."""
        last = self.died(i) if self.died(i) >= 0 else np.iinfo(np.int64).max
        return {
            name: Series(at[at <= last], self.arrays[f"series/{name}"][i][at <= last])
            for name, at in self.series.items()
        }

    def numbers(self, i: int) -> dict[str, float]:
        """The last measured numbers of a run."""
        return {name: float(s.values[-1]) for name, s in self.of(i).items() if len(s)}

    def weights(self, i: int) -> dict[str, Array]:
        """The parameters of a run."""
        named = {k: a[i] for k, a in self.arrays.items() if k.startswith(PARAMS)}
        return {k.removeprefix(PARAMS): a.copy() for k, a in named.items()}

    def record(self, i: int, status: str = "finished", sentence: str = "finished") -> Record:
        """What a run leaves that ends here: as diverged, where it left the finite numbers, else as it is called."""
        series, died, seconds = self.of(i), self.died(i), float(self.arrays["seconds"][i])
        if died < 0:
            outcome = Outcome(status, self.step, sentence, seconds, self.numbers(i))
            return Record(self.runs[i], outcome, series)
        last = series["train_loss"].values
        then = f"its last mean training loss was {last[-1]:.3g}" if len(last) else "from its first steps on"
        sentence = f"left the finite numbers at step {died + 1}; {then}"
        return Record(self.runs[i], Outcome("diverged", died + 1, sentence, seconds, {}), series)


def joined(parts: Sequence[Snapshot]) -> Snapshot:
    """The rows of several snapshots of one program after the same number of steps, one after another."""
    first = parts[0]
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays}
    return replace(first, runs=tuple(run for part in parts for run in part.runs), arrays=arrays)
