"""What an earlier part of a study left, so that nothing is trained twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..fleet import Snapshot
from ..fleet.keep import identity
from ..records import Record
from ..specs import Run


@dataclass(frozen=True)
class Memory:
    """What is known of runs, by their identity.

    Args:
        records: of runs that are done.
        standing: of runs that were in training, a snapshot and the row in it.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    standing: Mapping[str, tuple[Snapshot, int]] = field(default_factory=dict)

    def of(self, runs: Sequence[Run]) -> tuple[dict[int, Record], dict[int, tuple[Snapshot, int]]]:
        """The records and the standing of some runs, by their positions."""
        if not self.records and not self.standing:
            return {}, {}
        names = dict(enumerate(map(identity, runs)))
        done = {i: self.records[name] for i, name in names.items() if name in self.records}
        left = {i: name for i, name in names.items() if i not in done}
        return done, {i: self.standing[name] for i, name in left.items() if name in self.standing}


def as_stored(record: Record) -> Record:
    """A record as a store gives it back, so that a study that goes on from one has the same numbers."""
    with np.errstate(over="ignore"):
        return replace(record, examples={k: v.astype(np.float32) for k, v in record.examples.items()})
