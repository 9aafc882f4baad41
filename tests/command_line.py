"""Command lines, as users run them: how they end, and what they may see of their surroundings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "src"


@dataclass(frozen=True)
class Ended:
    """How a command line ended: its exit status, and what it printed."""

    status: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON document without NaN, and nothing else."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


CommandLine = Callable[..., Ended]


def environment() -> dict[str, str]:
    """As users have it: without what this test session set, and fallline found where these tests find it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "FALLLINE", "COLUMNS"))}
    return {**kept, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
