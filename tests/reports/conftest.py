"""Stores and reports that several tests read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallline.reports.write import write_report
from fallline.store import Store

from . import synthetic


@pytest.fixture(scope="session")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of five arms over ten replicates."""
    return synthetic.write(tmp_path_factory.mktemp("five") / "study.db")


@pytest.fixture(scope="session")
def page(five: Path) -> str:
    """Its report."""
    return write_report(five, five.with_name("report.html")).read_text(encoding="utf-8")


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., str]:
    """Write a made-up comparison, change its result, and read its report."""

    def reported(
        made: Any = synthetic.FIVE,
        replicates: int = 2,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> str:
        path = synthetic.write(tmp_path / "study.db", made, replicates)
        if change is not None:
            with Store.resume(path) as store:
                result = store.result
                assert result is not None
                change(result)
                store.finish(result)
        return write_report(path, tmp_path / "report.html").read_text(encoding="utf-8")

    return reported
