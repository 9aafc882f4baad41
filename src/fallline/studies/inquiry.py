"""A study of the lecture: its claims, how long it takes, and the function that answers them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BadValue, nearest
from .claims import Answer, Claim
from .lab import Lab

Answers = Callable[..., Iterator[Answer]]


@dataclass(frozen=True)
class Inquiry:
    """A study that is asked for by its name.

    Args:
        name: as in ``fallline study NAME``.
        claims: that it answers.
        minutes: that it takes on two cores, and a quick one.
        answer: ``(lab, **options) → answers``, one for each claim, as they are found.
    """

    name: str
    claims: tuple[Claim, ...]
    minutes: tuple[float, float]
    answer: Answers

    @property
    def about(self) -> str:
        """What it asks, in one line."""
        return (inspect.getdoc(self.answer) or "").split("\n")[0]

    @property
    def options(self) -> dict[str, Any]:
        """What can be chosen, with what it is where nothing is."""
        return {name: p.default for name, p in list(inspect.signature(self.answer).parameters.items())[1:]}

    def answers(self, lab: Lab, **options: Any) -> Iterator[Answer]:
        """Answer the claims, one after another.

        Raises:
            BadValue: where the study has no such option.
        """
        for name in options:
            if name not in self.options:
                known = nearest(name, self.options) if self.options else "it has none"
                raise BadValue(f"the study {self.name} has no option {name!r}; {known}")
        return self.answer(lab, **options)


def inquiry(
    name: str, claims: Sequence[Claim], *, minutes: float, quick: float
) -> Callable[[Answers], Inquiry]:
    """Make a study of a function."""

    def made(answer: Answers) -> Inquiry:
        return Inquiry(name, tuple(claims), (minutes, quick), answer)

    return made
