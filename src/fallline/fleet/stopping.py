"""Ctrl-C and SIGTERM, noted at once and heeded between two steps, where nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Asked:
    """Whether this process was asked to stop: by "" nobody, "SIGINT" or "SIGTERM"."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.by, self._then = "", then

    def __call__(self, number: int, frame: Any) -> None:
        if self.by and number == signal.SIGINT:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.by = signal.Signals(number).name
        self._then()


@contextmanager
def listening(*, to_term: bool, then: Callable[[], None] = lambda: None) -> Iterator[Asked]:
    """Note signals while the block lasts; only the main thread of a process can.

    Args:
        to_term: whether SIGTERM is noted too, where there is something to save; left alone, it ends the process.
        then: called when a signal comes.
    """
    asked = Asked(then)
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = [signal.SIGINT, *([signal.SIGTERM] if to_term else [])]
    before = [(number, signal.signal(number, asked)) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in before:
            signal.signal(number, handler)
