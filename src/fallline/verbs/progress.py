"""A progress bar with an estimate, on standard error or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Meter:
    """Counts run-steps; what is still to be done may grow."""

    def __init__(self, show: Callable[[int, int], None] | None) -> None:
        self._show, self.total, self.done = show, 0, 0

    def expect(self, more: int) -> None:
        """So many more run-steps are to be done."""
        self.total += more
        self._shown()

    def __call__(self, done: int) -> None:
        """So many more run-steps are done."""
        self.done += done
        self._shown()

    def _shown(self) -> None:
        if self._show:
            self._show(self.done, self.total)


@contextmanager
def meter(what: str, *, shown: bool | None = None) -> Iterator[Meter]:
    """A meter, drawn while the block lasts; left out, it is shown where someone is watching."""
    if shown is None:
        shown = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not shown:
        yield Meter(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr="ipykernel" not in sys.modules)
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield Meter(lambda done, total: progress.update(bar, completed=done, total=total))
