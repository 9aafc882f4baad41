"""Comparisons that are small, in this process, in the test's own folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import fallline as fl
from fallline.verbs.compare import Comparison

Compare = Callable[..., Comparison]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """``fl.compare`` with small numbers; what comes out is checked to be JSON without NaN."""
    numbers = count()
    small = {"steps": 20, "replicates": 10, "rates": 3, "seeds": 1, "workers": 0, "progress": False}

    def run(*given: Any, **options: Any) -> Comparison:
        out = tmp_path / f"out-{next(numbers)}"
        found = fl.compare(*given, **{**small, "out": out, **options})
        assert json.loads(json.dumps(found.document, allow_nan=False)) == found.document
        return found

    return run
