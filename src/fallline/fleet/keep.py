"""Blocks in training, kept in a folder beside a study, so that one that is killed loses at most an interval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadStore
from ..records import json_text
from ..specs import Run
from . import checkpoint
from .snapshot import Snapshot

SUFFIX = ".safetensors"
Standing = tuple[Snapshot, int]


def identity(run: Run) -> str:
    """What makes a run that run, as text: the same before and after a stop."""
    return json_text(run.plain())


@dataclass(frozen=True)
class Keep:
    """A folder of snapshots, a file for each block in training.

    Args:
        folder: made when the first snapshot is saved.
        every: seconds between two snapshots of a block.
    """

    folder: Path
    every: float = 60.0

    def saver(self, runs: Sequence[Run], tell: Callable[[str], None]) -> Callable[[Snapshot], None]:
        """What saves the snapshots of one block; where that fails, training goes on, and it is told."""
        path = self._path(runs)

        def save(held: Snapshot) -> None:
            facts = {
                "runs": [run.plain() for run in held.runs],
                "step": held.step,
                "series": {name: at.tolist() for name, at in held.series.items()},
            }
            try:
                self.folder.mkdir(exist_ok=True)
                checkpoint.write(path, held.arrays, facts)
            except OSError as error:
                tell(
                    f"checkpoints cannot be written to {self.folder.name} ({error.strerror}), so training goes on without "
                    "new ones, and would lose more if it were killed"
                )

        return save

    def last(self, runs: Sequence[Run]) -> Snapshot | None:
        """Where a block stood when it was last saved; None where it was not."""
        try:
            return _read(self._path(runs))[0]
        except BadStore:
            return None

    def standing(self) -> tuple[dict[str, Standing], list[str]]:
        """By the identity of each run, the furthest point at which it was saved; and what must be said about that."""
        found: dict[str, Standing] = {}
        notes: list[str] = []
        for path in checkpoint.found(self.folder, SUFFIX):
            try:
                held, note = _read(path)
            except BadStore as error:
                notes.append(str(error))
                continue
            notes += [note] if note else []
            for row, name in enumerate(map(identity, held.runs)):
                if name not in found or found[name][0].step < held.step:
                    found[name] = held, row
        return found, notes

    def forget(self, runs: Sequence[Run]) -> None:
        """Remove what was saved of a block whose records are kept elsewhere by now."""
        checkpoint.remove(self._path(runs))

    def clear(self) -> None:
        """Remove all of it."""
        for path in self.folder.glob(f"*{SUFFIX}*"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds what is not ours
            self.folder.rmdir()

    def _path(self, runs: Sequence[Run]) -> Path:
        names = "\n".join(map(identity, runs))
        return self.folder / (hashlib.sha256(names.encode()).hexdigest()[:16] + SUFFIX)


def _read(path: Path) -> tuple[Snapshot, str]:
    arrays, facts, note = checkpoint.read(path)
    try:
        series = {name: np.array(at, dtype=np.int64) for name, at in facts["series"].items()}
        return Snapshot(tuple(map(Run.rebuild, facts["runs"])), facts["step"], arrays, series), note
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadStore(
            f"the checkpoint {path} holds no block of runs as this version writes them ({type(error).__name__}: {error}), "
            "so what it held is trained again from the beginning"
        ) from error
