"""Long work that is asked to stop: it saves at its next step, ends, and says how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WorkerLost
from ..fleet import Fleet, Stopped
from ..fleet.stopping import listening


class Terminated(SystemExit):
    """SIGTERM came: the process ends with status 143, as shells tell of one that this signal ended."""

    def __init__(self, *sentence: str) -> None:
        super().__init__(143)
        self.args = sentence


@contextmanager
def stopping(fleet: Fleet) -> Iterator[None]:
    """Answer Ctrl-C and SIGTERM by a stop at the next step, once all blocks are saved; a second Ctrl-C ends at once.

    Only a process's main thread is told of signals: elsewhere nothing is changed.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        Terminated: after SIGTERM.
    """
    with listening(to_term=True, then=fleet.pool.stop) as asked:
        try:
            yield
        except Stopped:
            if not asked.by:
                raise
    if asked.by == "SIGINT":
        raise KeyboardInterrupt
    if asked.by:
        raise Terminated


def sentence(by: str, folder: Path, resumable: bool) -> str:
    """How the work stopped, and how it goes on."""
    how = (
        f"fallline resume {shlex.quote(str(folder))}"
        if resumable
        else f"fl.resume({str(folder)!r}, tasks=[…])"
    )
    return f"{by}; what was done is kept: go on with {how}"


@contextmanager
def telling(folder: Path, *, resumable: bool) -> Iterator[None]:
    """Say how to go on with the study in a folder, where what is inside ends early.

    Args:
        folder: of the study.
        resumable: whether its tasks can be found by name.
    """
    try:
        yield
    except Terminated:
        raise Terminated(sentence("stopped by SIGTERM", folder, resumable)) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(sentence("stopped by Ctrl-C", folder, resumable)) from None
    except WorkerLost as lost:
        raise WorkerLost(sentence(str(lost), folder, resumable)) from lost
