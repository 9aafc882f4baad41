"""What looks after a block in training: it is saved from time to time, and stops when it is asked to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from .snapshot import Snapshot


class Stopped(Exception):
    """Training was asked to stop; what was done is saved where there is a place for it."""


class Guard:
    """Looks at a block after each of its steps.

    Args:
        save: keeps a snapshot; None where nothing is kept.
        every: seconds between two snapshots.
        stop: whether to stop now.
    """

    def __init__(
        self,
        save: Callable[[Snapshot], None] | None = None,
        every: float = math.inf,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._save, self._every, self._stop = save, every, stop
        self._next = time.monotonic() + every  # a clock that is not set back

    def look(self, snapshot: Callable[[], Snapshot]) -> None:
        """Save where it is time to, and end the training where that was asked for.

        Raises:
            Stopped: once the block is saved.
        """
        stop = self._stop()
        if self._save and (stop or time.monotonic() >= self._next):
            self._save(snapshot())
            self._next = time.monotonic() + self._every
        if stop:
            raise Stopped
