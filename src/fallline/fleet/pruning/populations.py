"""Population-based training: from time to time the worst runs go on from the states of the best, with other numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ... import rng, specs
from ...errors import BadValue, NotFound, nearest
from ...rules import base
from ...specs import Domain, Rule, Run
from ..members import MODEL
from .board import Board, check_metric, check_number, check_whole

LOSS = "loss."
PROBABILITY = Domain("a probability", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class population:
    """Population-based training: every so many steps, the worst runs copy the best ones, and change their numbers.

    Of n runs, the worst ⌊exploit · n⌋ (one at least, if there are two) and all that have diverged *exploit*: each
    goes on from parameters, buffers, rule state, rule, numbers and options of one of the ⌊exploit · n⌋ best, each
    as likely as another. Then it *explores*: each number is multiplied by the one or the other factor, as likely as
    not. A number with an excluded upper end h, as a decay rate below 1, moves by its distance, h − (h − x) · factor;
    what is out of a number's domain is brought back to its end. Its seed, data, order and noise stay its own.

    Args:
        every: the steps between decisions.
        exploit: the share of runs that copy, and the share that is copied; at most a half.
        perturb: the two factors.
        names: the numbers to explore: of the rule by path, as ``lr`` or ``1.lr``, of the loss as ``loss.weight``, of
            the model as ``model.dropout``; left out, all those in which runs differ. Schedules stay as they are.
        seed: decides who copies whom, and which factors.
        metric: what runs compete by on validation: ``score``, in the direction of the task's metric, or ``loss``.

    >>> population(every=30).rungs(100, ())
    [30, 60, 90]

    Source: Jaderberg et al., Population based training of neural networks, 2017, with its truncation selection;
    members wait for each other, and the share of a decay rate that is forgotten is what is multiplied.
    """

    every: int
    exploit: float = 0.2
    perturb: tuple[float, float] = (0.8, 1.25)
    names: tuple[str, ...] = ()
    seed: int = 0
    metric: str = "score"

    def __post_init__(self) -> None:
        check_whole("population", 1, every=self.every)
        check_whole("population", 0, seed=self.seed)
        check_number("population", 0.0, 0.5, exploit=self.exploit)
        check_metric(self.metric)
        for name, values in (("perturb", self.perturb), ("names", self.names)):
            object.__setattr__(self, name, tuple(values))
        if len(self.perturb) != 2 or not all(0 < factor < float("inf") for factor in self.perturb):
            raise BadValue(f"population(perturb={self.perturb!r}): perturb must be two factors above 0")

    def rungs(self, steps: int, evaluations: Sequence[int]) -> list[int]:
        """Every so many steps."""
        return list(range(self.every, steps, self.every))

    def decide(self, board: Board) -> list[int]:
        """The worst go on from the best, the others from themselves."""
        runs = range(len(board.going))
        ranked, size = board.ranked(runs), max(1, int(self.exploit * len(runs)))
        lost = len(runs) - len(ranked)
        staying = ranked[: max(1, len(ranked) - max(0, size - lost))]
        best = staying[:size]
        if not best:
            return board.only(i for i in runs if board.going[i])
        return [
            i if i in staying else best[self._drawn("which run", board.step, i) % len(best)] for i in runs
        ]

    def reason(self, board: Board, i: int) -> str:
        """Never asked for: a run without finite numbers copies another, or is all there is."""
        return "no run had a finite score to copy"

    def explored(self, run: Run, step: int, i: int) -> Run:
        """A run with its numbers changed, as the run at position ``i`` changes them after this step."""
        known = numbers(run)
        moved = {
            name: explored(known[name], self.perturb[self._drawn(name, step, i) % 2], domain(run, name))
            for name in self.names
            if name in known
        }
        return with_numbers(run, moved)

    def named(self, runs: Sequence[Run], explorable: Sequence[str]) -> population:
        """This policy with the names of what it explores in these runs.

        Args:
            runs: the runs.
            explorable: the numbers that the models have, as ``model.dropout``.
        """
        all_known = [numbers(run) for run in runs]
        known = {
            name for row in all_known for name in row if not name.startswith(MODEL) or name in explorable
        }
        for name in self.names:
            if name not in known:
                raise NotFound(
                    f"population(names=…): no run gives a number {name!r} a value; {nearest(name, known)}"
                )
        differ = [name for name in sorted(known) if len({row[name] for row in all_known if name in row}) > 1]
        if not self.names and not differ:
            raise BadValue(
                "population: there is nothing to explore, as the runs differ in no number outside of schedules: "
                "name some with names=('lr',), or start from runs that differ"
            )
        return replace(self, names=self.names or tuple(differ))

    def _drawn(self, what: str, step: int, i: int) -> int:
        """A number below 2**63 by counters: which draw, which step, which run."""
        return rng.seed_for(self.seed, f"population, {what}, {step}, {i}")


def explored(value: float, factor: float, within: Domain | None) -> float:
    """A number moved by a factor, inside of its domain.

    >>> round(explored(0.9, 0.8, base.UNIT), 6)
    0.92
    """
    if within is None:
        return value * factor
    away = within.open_high and within.high < float("inf")
    moved = within.high - (within.high - value) * factor if away else value * factor
    moved = min(max(moved, within.low), within.high)
    return moved if moved in within else value


# --- the numbers of a run, by name ------------------------------------------------------------------------


def numbers(run: Run) -> dict[str, float]:
    """What can be multiplied: numbers of the rule by path, of the loss and of the model with a word before them."""
    named = dict(specs.flatten(run.rule))
    named |= {LOSS + name: value for name, value in run.loss.items()}
    named |= {MODEL + name: value for name, value in run.model.items()}
    fit = {name: v for name, v in named.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return {name: float(value) for name, value in fit.items()}


def with_numbers(run: Run, moved: Mapping[str, float]) -> Run:
    """A run with other numbers, by the same names."""
    of_loss = {k.removeprefix(LOSS): v for k, v in moved.items() if k.startswith(LOSS)}
    of_model = {k.removeprefix(MODEL): v for k, v in moved.items() if k.startswith(MODEL)}
    of_rule = {k: v for k, v in moved.items() if not k.startswith((LOSS, MODEL))}
    rule = run.rule.replace(**of_rule)
    return replace(run, rule=rule, loss={**run.loss, **of_loss}, model={**run.model, **of_model})


def domain(run: Run, name: str) -> Domain | None:
    """What a number of a run may be, as far as it is said."""
    if name.startswith(MODEL):
        return PROBABILITY
    return None if name.startswith(LOSS) else _of_rule(run.rule, name)


def _of_rule(rule: Rule, path: str) -> Domain | None:
    head, _, rest = path.partition(".")
    if rest:
        return _of_rule(rule.children[int(head)], rest)
    return base.behavior(rule).domains.get(head)
