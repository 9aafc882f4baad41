"""The answer of a comparison."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..reports.table import legend, ranking_table
from ..store import Store


@dataclass(frozen=True)
class Comparison:
    """The answer of :func:`compare`: it prints as a table with its verdict, and shows itself in a notebook.

    Args:
        document: the whole answer as plain data, as ``fallline compare --json`` prints it.
    """

    document: dict[str, Any]

    @staticmethod
    def of(store: Path) -> Comparison:
        """The answer that a finished store holds."""
        with Store.open(store) as opened:
            return Comparison(opened.result or {})

    @property
    def verdict(self) -> str:
        """One sentence: which arm is best, by how much, how sure."""
        return str(self.document["verdict"])

    @property
    def ranking(self) -> list[dict[str, Any]]:
        """The arms, best first."""
        return list(self.document["ranking"])

    @property
    def store(self) -> Path:
        """Where all runs are kept."""
        return Path(self.document["store"])

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return Path(self.document["report"])

    @property
    def worse(self) -> bool:
        """Whether an arm is worse than the baseline that was given."""
        return bool(self.document.get("baseline", {}).get("worse", False))

    def __str__(self) -> str:
        return f"{ranking_table(self.document).text()}\n{legend(self.document)}\n\n{self.verdict}"

    def _repr_html_(self) -> str:
        where = html.escape(str(self.report))
        return (
            f"<p><strong>{html.escape(self.verdict)}</strong></p>{ranking_table(self.document).html()}"
            f'<p>Report: <a href="{where}">{where}</a></p>'
        )
