"""The ranking as a table of short texts, for a terminal, a notebook and plain print."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """Column heads, rows of texts, and which columns hold numbers (to be aligned on the right)."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]

    def text(self) -> str:
        """The table in plain text."""
        widths = [max(len(row[i]) for row in (self.heads, *self.rows)) for i in range(len(self.heads))]

        def line(row: Sequence[str]) -> str:
            cells = [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, self.numeric, strict=True)]
            return "  ".join(cells).rstrip()

        return "\n".join([line(self.heads), line(["─" * w for w in widths]), *map(line, self.rows)])

    def html(self) -> str:
        """The table in HTML, for a notebook."""
        head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in self.heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def ranking_table(document: Mapping[str, Any]) -> Table:
    """The ranking of a comparison's result document, best first."""
    rows = document["ranking"]
    heads = ("", "arm", document["metric"], f"{document['level']:.0%} interval", "test loss", "steps to target")
    heads = (*heads, "working range", "chosen")
    cells = tuple(
        (
            str(row["rank"]),
            row["arm"],
            _number(row["score"], 4),
            _interval(row),
            _number((row.get("loss") or {}).get("value"), 3),
            _steps(row),
            _range(row),
            _settings(row),
        )
        for row in rows
    )
    return Table(heads, cells, (True, False, True, False, True, True, True, False))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _interval(row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return _diverged(row)
    return "–" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"


def _diverged(row: Mapping[str, Any]) -> str:
    failed, of = (sum(pair) for pair in zip(*row["diverged"].values(), strict=True))
    return f"diverged {failed} of {of}"


def _steps(row: Mapping[str, Any]) -> str:
    reached, of = row["reached"]
    steps = _number(row["steps_to_target"], 3)
    return steps if reached == of else f"{steps} ({reached} of {of})"


def _range(row: Mapping[str, Any]) -> str:
    """Decades of the tuned number that reach the target; with ≥ where the search ended first."""
    found = row.get("working")
    if not found:
        return "–"
    return f"{'≥ ' if found['open_low'] or found['open_high'] else ''}{found['decades']:.2f} decades"


def _settings(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value:.3g}" for name, value in row["settings"].items())
