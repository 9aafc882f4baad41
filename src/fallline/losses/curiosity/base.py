"""What a curiosity is: three pure functions of plain tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from ...errors import BadValue, NotFound, nearest
from ...specs import Domain
from ...types import Numbers

States: TypeAlias = dict[str, Tensor]
Cells: TypeAlias = Callable[[Tensor], Tensor]


class Transition(NamedTuple):
    """What was seen: before [n, …] and after [n, …] of one shape, and the action [n] between, as whole numbers."""

    before: Tensor
    action: Tensor
    after: Tensor


@dataclass(frozen=True)
class Curiosity:
    """An idea of what is new, as three functions.

    Args:
        name: what it is called.
        start: ``seed → state``: tensors by name.
        judge: ``(state, seen, h) → [n]``.
        renew: ``(state, seen, h) → state``.
        numbers: its numbers by name.
        domains: what they may be.
        width: how many numbers an observation has; None where observations are cells or anything else.
    """

    name: str
    start: Callable[[int], States]
    judge: Callable[[States, Transition, Any], Tensor]
    renew: Callable[[States, Transition, Any], States]
    numbers: Mapping[str, float]
    domains: Mapping[str, Domain]
    width: int | None = None

    def __post_init__(self) -> None:
        for name, domain in self.domains.items():
            domain.check(self.name, name, self.numbers[name])

    def init(self, seed: int = 0) -> States:
        """The state before anything was seen."""
        return self.start(seed)

    def bonus(self, state: States, seen: Transition, h: Numbers | None = None) -> Tensor:
        """A number for each transition, [n]; ``h`` are numbers in place of its own."""
        self._check(seen)
        return self.judge(state, seen, self._numbers(h)).detach()

    def learn(self, state: States, seen: Transition, h: Numbers | None = None) -> States:
        """The state after these transitions; the one that is given is not changed."""
        self._check(seen)
        return self.renew(state, seen, self._numbers(h))

    def _numbers(self, h: Numbers | None) -> SimpleNamespace:
        for name in h or {}:
            if name not in self.numbers:
                raise NotFound(f"{self.name} has no number {name!r}; {nearest(name, self.numbers)}")
        return SimpleNamespace(**{**self.numbers, **(h or {})})

    def _check(self, seen: Transition) -> None:
        before, action, after = seen
        if before.shape != after.shape or before.ndim == 0 or action.shape != before.shape[:1]:
            raise BadValue(
                f"a transition has before and after of one shape [n, …] and actions [n]; got {list(before.shape)}, "
                f"{list(after.shape)} and {list(action.shape)}"
            )
        if self.width is not None and (before.ndim != 2 or before.shape[1] != self.width):
            raise BadValue(
                f"{self.name} was made for observations [n, {self.width}], got {list(before.shape)}: flatten them, or make "
                "it for their width"
            )


def cells_of(cell: Cells | None, observations: Tensor) -> Tensor:
    """The cell of each observation, refused where it is no whole number."""
    where = observations if cell is None else cell(observations)
    if where.ndim != 1 or where.is_floating_point():
        raise BadValue(
            f"cells are whole numbers [n], one for each observation; got {list(where.shape)} of {where.dtype}: pass "
            "cell=…, a function from observations to cells"
        )
    return where.long()


def check_whole(owner: str, **sizes: Any) -> None:
    """Refuse sizes that are no whole numbers above 0."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadValue(f"{owner}({name}={size!r}) must be a whole number of at least 1")
