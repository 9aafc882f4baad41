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
            cells = [
                c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, self.numeric, strict=True)
            ]
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
    """The ranking of a comparison's result document, best first; narrow enough for 80 columns."""
    score = f"{document['metric']} [{document['level']:.0%}]"
    tuned = {name for row in document["ranking"] for name in row["settings"]}
    chosen = tuned.pop() if len(tuned) == 1 else "chosen"  # one name for all stands in the head
    heads = ("", "arm", score, "test loss", "steps", "time", "decades", chosen)
    cells = tuple(
        (
            "" if row["rank"] is None else str(row["rank"]),
            row["arm"],
            _score(row),
            _number((row.get("loss") or {}).get("value"), 3),
            _steps(row),
            _time(row["seconds_to_target"]),
            _range(row),
            _settings(row, chosen),
        )
        for row in document["ranking"]
    )
    return Table(heads, cells, (True, False, True, True, True, True, True, False))


def legend(document: Mapping[str, Any]) -> str:
    """What the columns of :func:`ranking_table` mean."""
    tuned = {row["rates"]["name"] for row in document["ranking"] if row.get("rates")}
    what = f"range of {' and '.join(sorted(tuned))} that reaches it" if tuned else "nothing was tuned"
    return f"steps, time: until {document['target']['sentence']}. decades: {what}."


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _score(row: Mapping[str, Any]) -> str:
    if row["score"] is None:
        return _diverged(row)
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{_number(row['score'], 4)}{ends}"


def _diverged(row: Mapping[str, Any]) -> str:
    failed, of = (sum(pair) for pair in zip(*row["diverged"].values(), strict=True))
    return f"diverged {failed} of {of}"


def _steps(row: Mapping[str, Any]) -> str:
    reached, of = row["reached"]
    steps = _number(row["steps_to_target"], 3)
    return steps if reached == of else f"{steps} ({reached}/{of})"


def _time(seconds: float | None) -> str:
    """A time with its unit: 6.1 ms."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s"


def _range(row: Mapping[str, Any]) -> str:
    """Decades of the tuned number that reach the target; with ≥ where the search ended first."""
    found = row.get("working")
    if not found:
        return "–"
    return f"{'≥' if found['open_low'] or found['open_high'] else ''}{found['decades']:.2f}"


def _settings(row: Mapping[str, Any], chosen: str) -> str:
    return ", ".join(
        f"{value:.3g}" if name == chosen else f"{name}={value:.3g}" for name, value in row["settings"].items()
    )
