"""The studies of the lecture, one file each: what it claims, how it is judged, and what answers it."""

from __future__ import annotations

import importlib

from ...errors import NotFound, nearest
from ..inquiry import Inquiry

NAMES = (
    "activations", "confidence", "costs", "depth", "losses", "right-thing", "soft-constraint", "style-transfer",
)  # fmt: skip


def study(name: str) -> Inquiry:
    """A study by its name.

    >>> study("losses").claims[0].id
    'L1'
    """
    if name not in NAMES:
        raise NotFound(f"there is no study {name!r}; {nearest(name, NAMES)}")
    module = importlib.import_module(f".{name.replace('-', '_')}", __name__)
    found: Inquiry = module.study
    return found
