"""What an earlier part of a study left, so that nothing is trained twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..fleet import Fleet, Settings, Snapshot
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


@dataclass(frozen=True)
class Trainer:
    """Asks a fleet for runs, and hands on what it obtains.

    Args:
        fleet: holds the tasks.
        sink: is given records as they are obtained.
        progress: called with the number of run-steps done since its last call.
        memory: what an earlier part of the same study left.
    """

    fleet: Fleet
    sink: Callable[[list[Record]], None]
    progress: Callable[[int], None] | None
    memory: Memory

    def run(self, asked: Sequence[tuple[int, Run]], settings: Settings) -> list[Record]:
        """Train what is not known yet; the records come in the order of what was asked for."""
        found, known = self.memory.of([run for _, run in asked])
        left = [i for i in range(len(asked)) if i not in found]
        if self.progress and (found or known):
            self.progress(len(found) * settings.steps + sum(held.step for held, _ in known.values()))
        standing = {k: known[i] for k, i in enumerate(left) if i in known}
        for positions, records in self.fleet.train(
            [asked[i] for i in left], settings, self.progress, standing
        ):
            stored = [as_stored(record) for record in records]
            found.update({left[k]: record for k, record in zip(positions, stored, strict=True)})
            self.sink(records)
        return [found[i] for i in range(len(asked))]
