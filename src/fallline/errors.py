"""Every error that fallline raises on purpose.

    FalllineError
    ├── BadValue          a number, name or option outside of what it may be       (also a ValueError)
    ├── BadRule           rules put together in a way that cannot train            (also a ValueError)
    ├── BadTask           a task that cannot be trained: data, model, loss, score  (also a ValueError)
    ├── NotFound          a task, rule, loss, file or column that does not exist   (also a LookupError)
    ├── BadStore          a store that cannot be read or written                   (also an OSError)
    └── WorkerLost        a worker process ended before its runs did               (also a RuntimeError)

Each message is one sentence that says what came, what was expected, why, and what to do next. The command
line prints it and exits with status 2; a diverged run is not an error but an outcome (``records.Outcome``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FalllineError(Exception):
    """The base of all errors that fallline raises on purpose."""


class BadValue(FalllineError, ValueError):
    """A number, name or option outside of what it may be."""


class BadRule(FalllineError, ValueError):
    """Rules put together in a way that cannot train."""


class BadTask(FalllineError, ValueError):
    """A task that cannot be trained as it stands: its data, its model, its loss or its score."""


class NotFound(FalllineError, LookupError):
    """A task, rule, loss, file or column that does not exist."""


class BadStore(FalllineError, OSError):
    """A store or report that cannot be read or written."""


class WorkerLost(FalllineError, RuntimeError):
    """A worker process ended before its runs did."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest to a misspelt one, list them all when none is near, and say so when there are none.

    >>> nearest("adma", ["adam", "sgd"])
    "did you mean 'adam'?"
    >>> nearest("xyz", ["sgd", "adam"])
    'known: adam, sgd'
    >>> nearest("xyz", [])
    'there are none'
    """
    names = sorted(known)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name.lower(), names, cutoff=0.6)
    close.sort(
        key=lambda found: sorted(found) != sorted(name.lower())
    )  # letters that changed places come first
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
