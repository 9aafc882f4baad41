"""Simulations that show whether the statistics keep their promises, for the tests and for the decisions page.

``python tests/studies/simulations.py [simulations]`` prints the tables of ``docs/decisions/statistics.md``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import betaincinv

from fallline.studies import stats
from fallline.studies.protocol import choose
from fallline.studies.ranking import compare_all
from fallline.studies.signs import sign_flip_interval

Ends = tuple[float, float]
Draw = Callable[[np.random.Generator, int], np.ndarray]


# --- rates, judged ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rate:
    """How often something happened, and what is known of its probability (Clopper and Pearson)."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials

    def ends(self, level: float = 0.99) -> Ends:
        """The exact binomial interval: each end is excluded by a one-sided test at (1 − level) / 2."""
        tail, k, n = (1 - level) / 2, self.hits, self.trials
        low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
        high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
        return low, high

    def __str__(self) -> str:
        low, high = self.ends()
        return f"{100 * self.value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def check_rate(rate: Rate, promised: float, *, side: str = "both", level: float = 0.99) -> None:
    """Fail where the binomial interval of a simulated rate leaves out what was promised.

    ``side`` says what would break the promise: ``both``, ``above`` (a false-alarm rate may be smaller than
    promised) or ``below`` (a coverage may be larger).
    """
    low, high = rate.ends(level)
    assert side == "above" or high >= promised, f"{rate} is below {promised}"
    assert side == "below" or low <= promised, f"{rate} is above {promised}"


# --- coverage of intervals --------------------------------------------------------------------------------

NORMAL: Draw = lambda rng, n: rng.normal(size=n)  # noqa: E731
DISTRIBUTIONS: dict[str, tuple[Draw, float]] = {
    "normal": (NORMAL, 0.0),
    "uniform": (lambda rng, n: rng.uniform(-1, 1, n), 0.0),
    "t with 3 degrees of freedom": (lambda rng, n: rng.standard_t(3, n), 0.0),
    "one in ten 10 times wider": (
        lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 0.1, 10, 1),
        0.0,
    ),
    "difference of accuracies, 360 examples": (
        lambda rng, n: (rng.binomial(360, 0.97, n) - rng.binomial(360, 0.97, n)) / 360,
        0.0,
    ),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0),
    "lognormal, σ = 0.5": (lambda rng, n: rng.lognormal(0, 0.5, n), math.exp(0.125)),
    "lognormal, σ = 1": (lambda rng, n: rng.lognormal(0, 1, n), math.exp(0.5)),
}


def coverage(
    method: Callable[[np.ndarray], Ends], draw: Draw, mean: float, n: int, trials: int, seed: int
) -> Rate:
    """How often an interval of n replicates contains the mean that they were drawn from."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(trials):
        low, high = method(draw(rng, n))
        hits += bool(low <= mean <= high)
    return Rate(hits, trials)


def ends(found: stats.Interval) -> Ends:
    """The ends of an interval, infinite where it has none."""
    return -math.inf if found.low is None else found.low, math.inf if found.high is None else found.high


def by_t(values: np.ndarray) -> Ends:
    return stats.student(stats.spread(values), 0.95)


def by_z(values: np.ndarray) -> Ends:
    """Broken on purpose: the normal quantile in place of Student's. It must fail the coverage check."""
    half = 1.959964 * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def by_bca(values: np.ndarray) -> Ends:
    return stats.bca(stats.spread(values), 0.95)


def by_signs(values: np.ndarray) -> Ends:
    return ends(sign_flip_interval(values))


# --- coverage over replicates and test examples -----------------------------------------------------------


@dataclass(frozen=True)
class Crossed:
    """Replicates × test examples with normal effects: standard deviations of replicates, examples and rest."""

    n: int
    m: int
    replicate: float
    example: float
    rest: float

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """[n, m] outcomes with mean zero."""
        rows = self.replicate * rng.normal(size=(self.n, 1))
        return rows + self.example * rng.normal(size=self.m) + self.rest * rng.normal(size=(self.n, self.m))


def crossed_coverage(method: Callable[[np.ndarray], Ends], design: Crossed, trials: int, seed: int) -> Rate:
    """How often an interval of [n, m] outcomes contains the mean over all seeds and all examples."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(trials):
        low, high = method(design.draw(rng))
        hits += bool(low <= 0 <= high)
    return Rate(hits, trials)


def by_crossed(outcomes: np.ndarray) -> Ends:
    return ends(stats.interval(outcomes.mean(axis=1), outcomes=outcomes))


def by_replicates_only(outcomes: np.ndarray) -> Ends:
    return ends(stats.interval(outcomes.mean(axis=1)))


def by_pigeonhole(outcomes: np.ndarray, draws: int = 999) -> Ends:
    """Owen's pigeonhole bootstrap as he wrote it, rows and columns resampled together: the slow twin."""
    n, m = outcomes.shape
    rng = np.random.default_rng(0)
    rows = rng.multinomial(n, np.full(n, 1 / n), draws) / n
    columns = rng.multinomial(m, np.full(m, 1 / m), draws) / m
    low, high = np.quantile(np.sum(rows @ outcomes * columns, axis=1), [0.025, 0.975])
    return float(low), float(high)


# --- false alarms of a ranking ----------------------------------------------------------------------------

Table = Mapping[str, np.ndarray]


def false_alarms(
    draw: Callable[[np.random.Generator], Table], alarm: Callable[[Table], bool], trials: int, seed: int
) -> Rate:
    """How often ``alarm`` calls any pair of equally good arms significant."""
    rng = np.random.default_rng(seed)
    return Rate(sum(alarm(draw(rng)) for _ in range(trials)), trials)


def alarm_of_scores(scores: Table) -> bool:
    """Whether the library finds any pair of [n] scores significant."""
    return any(pair.significant for pair in compare_all(scores).differences)


def alarm_of_outcomes(outcomes: Table) -> bool:
    """Whether the library finds any pair of [n, m] outcomes significant, over seeds and test examples."""
    scores = {arm: rows.mean(axis=1) for arm, rows in outcomes.items()}
    return any(pair.significant for pair in compare_all(scores, outcomes=outcomes).differences)


def alarm_of_signs_then_interval(outcomes: Table) -> bool:
    """Broken on purpose: Holm's correction on the sign flips alone, the test examples in uncorrected intervals."""
    scores = {arm: rows.mean(axis=1) for arm, rows in outcomes.items()}
    found = [pair for pair in compare_all(scores).differences if pair.significant]
    return any(
        not low <= 0 <= high for low, high in (by_crossed(outcomes[d.a] - outcomes[d.b]) for d in found)
    )


def equal_arms(design: Crossed, arms: int) -> Callable[[np.random.Generator], Table]:
    """[n, m] outcomes of arms that are equally good over all examples, each with strengths of its own on these m."""
    return lambda rng: {f"arm {i}": design.draw(rng) for i in range(arms)}


def diverging_arms(n: int, arms: int, share: float) -> Callable[[np.random.Generator], Table]:
    """[n] scores of equal arms with a shared effect of the replicate, each diverging in a share of replicates."""

    def draw(rng: np.random.Generator) -> Table:
        shared = rng.normal(size=n)
        return {
            f"arm {i}": np.where(rng.random(n) < share, np.nan, shared + rng.normal(size=n))
            for i in range(arms)
        }

    return draw


# --- the whole protocol, from recorded runs ---------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Recorded runs of one arm: each setting trained with each seed.

    Args:
        validation: [settings, seeds] validation scores, NaN where the run diverged.
        loss: [settings, seeds] validation losses.
        outcomes: [settings, seeds, m] test outcomes, one for each example; NaN where the run diverged.
    """

    validation: np.ndarray
    loss: np.ndarray
    outcomes: np.ndarray

    @staticmethod
    def load(path: str | Path) -> Pool:
        """A pool from an .npz file with the arrays ``validation``, ``loss`` and ``outcomes``."""
        with np.load(path, allow_pickle=False) as arrays:
            named = {
                name: np.asarray(arrays[name], dtype=np.float64)
                for name in ("validation", "loss", "outcomes")
            }
        shape = named["validation"].shape
        assert named["loss"].shape == shape, named["loss"].shape
        assert named["outcomes"].shape[:2] == shape, named["outcomes"].shape
        return Pool(**named)

    def save(self, path: str | Path) -> None:
        """The inverse of :meth:`load`."""
        np.savez_compressed(path, validation=self.validation, loss=self.loss, outcomes=self.outcomes)


@dataclass(frozen=True)
class Protocol:
    """How arms are compared: seeds to tune on and fresh seeds to judge on, in each of several replicates.

    ``choose_once`` is the usual shortcut, broken on purpose: one tuning for all replicates. ``crossed`` hands the
    test outcomes to the comparison, as the library does.
    """

    replicates: int = 10
    tuning: int = 3
    fresh: int = 2
    better: str = "higher"
    crossed: bool = True
    choose_once: bool = False


def whole_protocol(
    validation: np.ndarray,
    test_outcomes: np.ndarray,
    loss: np.ndarray | None = None,
    *,
    arms: int = 3,
    trials: int = 500,
    seed: int = 0,
    protocol: Protocol = Protocol(),
) -> Rate:
    """How often the whole protocol finds any difference between identical arms, resampled from recorded runs.

    Args:
        validation: [settings, seeds], see :class:`Pool`.
        test_outcomes: [settings, seeds, m].
        loss: [settings, seeds], or None.
        arms: how many names the one arm is given.
        trials: simulated comparisons.
        seed: of the simulation.
        protocol: how they are compared.

    Returns the rate of trials with any pair significant. It is promised to be at most 5 %; it may be less.
    """
    pool = Pool(validation, np.zeros_like(validation) if loss is None else loss, test_outcomes)
    return compared([pool] * arms, trials, seed, protocol)


def compared(pools: Sequence[Pool], trials: int, seed: int, protocol: Protocol) -> Rate:
    """How often a comparison of arms, each drawing from its own pool, finds any pair significant."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(trials):
        drawn = {f"arm {i}": replicated(pool, rng, protocol) for i, pool in enumerate(pools)}
        scores = {arm: rows.mean(axis=1) for arm, rows in drawn.items()}
        outcomes = drawn if protocol.crossed else None
        found = compare_all(scores, better=protocol.better, outcomes=outcomes)
        hits += any(pair.significant for pair in found.differences)
    return Rate(hits, trials)


def replicated(pool: Pool, rng: np.random.Generator, protocol: Protocol) -> np.ndarray:
    """[replicates, m] test outcomes of one arm: tuned, trained again on fresh seeds, and averaged over these."""
    seeds = [drawn_seeds(pool, rng, protocol) for _ in range(protocol.replicates)]
    tuned = seeds[:1] * protocol.replicates if protocol.choose_once else seeds
    rows = []
    for (tuning, _), (_, fresh) in zip(tuned, seeds, strict=True):
        choice = choose(pool.validation[:, tuning], pool.loss[:, tuning], better=protocol.better)
        nothing = np.full(pool.outcomes.shape[2], np.nan)
        rows.append(nothing if choice.index is None else pool.outcomes[choice.index, fresh].mean(axis=0))
    return np.stack(rows)


def drawn_seeds(pool: Pool, rng: np.random.Generator, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Seeds to tune on and fresh seeds, none of them twice."""
    seeds = rng.permutation(pool.validation.shape[1])[: protocol.tuning + protocol.fresh]
    return seeds[: protocol.tuning], seeds[protocol.tuning :]


def synthetic_pool(
    seed: int, *, settings: int = 7, seeds: int = 40, m: int = 120, skill: float = 2.5
) -> Pool:
    """A pool like that of a small classifier: a flat optimum, easy and hard examples, a rate that diverges at times."""
    rng = np.random.default_rng(seed)
    setting = skill - 0.25 * (np.arange(settings) - settings * 0.55) ** 2
    ability = setting[:, None] + 0.15 * rng.normal(size=(settings, seeds))
    hardness = 1.5 * rng.normal(size=m)
    chance = 1 / (1 + np.exp(-(ability[:, :, None] - hardness)))
    outcomes = (rng.random(chance.shape) < chance).astype(float)
    held = 1 / (1 + np.exp(-(ability[:, :, None] - 1.5 * rng.normal(size=m))))
    validation = (rng.random(held.shape) < held).mean(axis=2)
    loss = -np.log(held).mean(axis=2)
    diverged = np.zeros((settings, seeds), dtype=bool)
    diverged[-1] = rng.random(seeds) < 0.3
    validation[diverged], loss[diverged], outcomes[diverged] = np.nan, np.nan, np.nan
    return Pool(validation, loss, outcomes)


# --- the tables of the decisions page ---------------------------------------------------------------------


def print_tables(trials: int) -> None:
    """Coverage of all intervals and false alarms of the ranking, each with its binomial 99 % interval."""
    print_coverage(trials)
    print_crossed(trials // 2)
    print_alarms(trials // 5)


def print_coverage(trials: int) -> None:
    print(f"Coverage at 95 %, {trials} simulations each\n")
    print("| replicates | n | Student's t | sign-flip inversion | BCa |\n|---|--:|--:|--:|--:|")
    for n in (6, 10, 30, 100):
        for name, (draw, mean) in DISTRIBUTIONS.items():
            methods = (by_t, by_signs, by_bca) if n <= 14 else (by_t, by_bca)
            cells = [str(coverage(method, draw, mean, n, trials, seed=n)) for method in methods]
            print(
                f"| {name} | {n} | {' | '.join(cells if n <= 14 else [cells[0], '', cells[1]])} |", flush=True
            )


def print_crossed(trials: int) -> None:
    print(f"\nCoverage over replicates and test examples, {trials} simulations each\n")
    print("| n | m | replicates | examples | rest | crossed | replicates only | pigeonhole |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for n in (3, 5, 10, 30):
        for effects in ((1.0, 0.0, 1.0), (0.1, 0.0, 1.0), (0.1, 0.3, 1.0), (0.1, 1.0, 1.0)):
            methods = (by_crossed, by_replicates_only, by_pigeonhole)
            cells = [
                crossed_coverage(method, Crossed(n, 100, *effects), trials, seed=n) for method in methods
            ]
            print(f"| {n} | 100 | {' | '.join(map(str, (*effects, *cells)))} |", flush=True)


def print_alarms(trials: int) -> None:
    print(f"\nEqual arms, any pair called significant, {trials} simulations each\n")
    print("| arms | examples | signs, then interval | both before Holm |\n|--:|--:|--:|--:|")
    for arms in (2, 4, 8):
        for example in (0.0, 0.1, 0.3):
            draw = equal_arms(Crossed(12, 360, 0.05, example, 0.3), arms)
            rules = (alarm_of_signs_then_interval, alarm_of_outcomes)
            cells = [false_alarms(draw, rule, trials, seed=arms) for rule in rules]
            print(f"| {arms} | {example} | {' | '.join(map(str, cells))} |", flush=True)
    for share in (0.1, 0.3):
        rate = false_alarms(diverging_arms(10, 3, share), alarm_of_scores, trials, seed=0)
        print(f"\n3 arms that diverge in {share:.0%} of 10 replicates: {rate}", flush=True)
    pool = synthetic_pool(0)
    for once in (False, True):
        protocol = Protocol(choose_once=once)
        rate = whole_protocol(pool.validation, pool.outcomes, pool.loss, trials=trials, protocol=protocol)
        print(f"\nwhole protocol, 3 arms, synthetic pool, {protocol}: {rate}", flush=True)


if __name__ == "__main__":
    print_tables(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
