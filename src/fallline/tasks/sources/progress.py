"""How far a download or a conversion is, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown(what: str, so_far: Callable[[], str], kept_in: object) -> Iterator[None]:
    """Say what is being done, and how far it is, while the block lasts.

    Args:
        what: as in "fetching mnist_784 from OpenML".
        so_far: how far it is, as in "3.1 MB"; asked from time to time where someone is watching, else at the end.
        kept_in: where the result will be found the next time.
    """
    if not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        sys.stderr.write(f"{what}, once; it is kept in {kept_in} …\n")
        yield
        sys.stderr.write(f"{what}: {so_far()}\n")
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class SoFar(ProgressColumn):
        """Asked whenever the line is drawn."""

        def render(self, task: object) -> Text:
            return Text(so_far())

    parts = (SpinnerColumn(), TextColumn("{task.description}"), SoFar(), TimeElapsedColumn())
    console = Console(stderr="ipykernel" not in sys.modules)
    with Progress(*parts, console=console, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


def megabytes(size: int) -> str:
    """A number of bytes, for people: ``3.1 MB``."""
    return f"{size / 1e6:.1f} MB"
