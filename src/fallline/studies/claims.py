"""Claims: a sentence that can be tested, its criteria, written down before the run, and the verdict, by code.

A criterion is a number and where it must lie. The number is measured with an interval, over replicates, and the
verdict follows: *holds* where the whole interval lies inside, *fails* where all of it lies outside, *undecided* where
it reaches across an end. A claim holds where all its criteria do, and fails where one of them does.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import BadValue
from ..figure import Figure
from ..tasks.pictures import png
from .stats import Interval, Values, interval

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


@dataclass(frozen=True)
class Criterion:
    """One number that a claim is judged by, and where it must lie, both ends left out.

    Args:
        quantity: what is measured, in words and with its unit.
        above, below: the ends; None where that side is open.

    >>> str(Criterion("accuracy gained (points)", above=0.0))
    'accuracy gained (points): above 0'
    """

    quantity: str
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise BadValue(f"a criterion needs an end, above=… or below=…: {self.quantity!r} has none")

    def __str__(self) -> str:
        if self.above is not None and self.below is not None:
            return f"{self.quantity}: between {self.above:g} and {self.below:g}"
        end = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        return f"{self.quantity}: {end}"

    def verdict(self, found: Interval) -> str:
        """Whether an interval lies where it must.

        >>> Criterion("gain", above=0.0).verdict(interval([0.2, 0.3, 0.25]))
        'holds'
        """
        if found.low is None or found.high is None:
            return UNDECIDED
        above = -float("inf") if self.above is None else self.above
        below = float("inf") if self.below is None else self.below
        if found.low > above and found.high < below:
            return HOLDS
        return FAILS if found.high <= above or found.low >= below else UNDECIDED


@dataclass(frozen=True)
class Claim:
    """A statement of the lecture, as it is tested.

    Args:
        id: as in "L1".
        slide: what the slide says.
        sentence: what is claimed, so that it can be false.
        criteria: by a short name, what decides.
    """

    id: str
    slide: str
    sentence: str
    criteria: Mapping[str, Criterion]

    def __post_init__(self) -> None:
        if not self.criteria:
            raise BadValue(f"the claim {self.id} has no criterion: say which number decides it")

    @property
    def criterion(self) -> str:
        """All criteria in one line."""
        return "; ".join(map(str, self.criteria.values()))


@dataclass(frozen=True)
class Table:
    """Numbers and texts under heads, as a study found them.

    Args:
        title: what the table shows.
        heads: one for each column.
        rows: cells; a number is shown with three digits.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def plain(self) -> dict[str, Any]:
        """For the result document."""
        return {"title": self.title, "heads": list(self.heads), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Picture:
    """A picture that a study made.

    Args:
        caption: what it is.
        pixels: [1, 3, height, width], from 0 to 1.
    """

    caption: str
    pixels: Tensor

    def plain(self) -> dict[str, Any]:
        """For the result document: a PNG file as base64 text."""
        return {"caption": self.caption, "png": base64.b64encode(png(self.pixels)).decode("ascii")}


@dataclass(frozen=True)
class Answer:
    """What was measured of a claim.

    Args:
        claim: the claim.
        values: for each of its criteria the measured number in each replicate, or one float that is exact, such as one
            that was computed and not sampled.
        figures, tables: what shows it.
        notes: what must be known to read it: where the slide leaves something out, where the verdict would be another.
        pictures: that were made.
    """

    claim: Claim
    values: Mapping[str, Values | float]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()

    def __post_init__(self) -> None:
        if set(self.values) != set(self.claim.criteria):
            raise BadValue(
                f"the claim {self.claim.id} is judged by {', '.join(self.claim.criteria)}, and was answered with "
                f"{', '.join(self.values) or 'nothing'}"
            )

    def measured(self, level: float) -> dict[str, Interval]:
        """The criteria's numbers with their intervals, which hold together at the level (Bonferroni)."""
        each = 1 - (1 - level) / len(self.values)
        return {name: _interval(self.values[name], each) for name in self.claim.criteria}

    def plain(self, level: float) -> dict[str, Any]:
        """For the result document: the claim, what decided it, and the verdict; its number is its first criterion's."""
        found = self.measured(level)
        parts = [
            {"name": name, "criterion": str(criterion), "verdict": criterion.verdict(found[name]), **_plain(found[name])}
            for name, criterion in self.claim.criteria.items()
        ]  # fmt: skip
        return {
            "id": self.claim.id, "slide": self.claim.slide, "claim": self.claim.sentence,
            "criterion": self.claim.criterion, "verdict": together([part["verdict"] for part in parts]),
            **_plain(found[next(iter(found))]),
            "level": level, "criteria": parts, "figures": [figure.plain() for figure in self.figures],
            "tables": [table.plain() for table in self.tables], "notes": list(self.notes),
            "pictures": [picture.plain() for picture in self.pictures],
        }  # fmt: skip


def together(verdicts: Sequence[str]) -> str:
    """The verdict of a claim from those of its criteria.

    >>> together(["holds", "undecided"]), together(["holds", "fails"]), together(["holds"])
    ('undecided', 'fails', 'holds')
    """
    if FAILS in verdicts:
        return FAILS
    return UNDECIDED if UNDECIDED in verdicts else HOLDS


def _interval(values: Values | float, level: float) -> Interval:
    if isinstance(values, (int, float)):
        return Interval(float(values), float(values), float(values), 1, level, "exact")
    return interval(values, level=level)


def _plain(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n, "method": found.method}
