"""The statistics on real runs: what ``tests/data/record_digits.py`` recorded on handwritten digits."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import simulations as sim

from fallline.studies.stats import interval

DATA = Path(__file__).parent.parent / "data"
RULES = 5


@pytest.fixture(scope="module")
def pool() -> sim.Pool:
    return sim.Pool.load(DATA / "digits_pool.npz")


@pytest.fixture(scope="module")
def differences() -> list[np.ndarray]:
    """For each pair of rules, 100 paired differences of test accuracy."""
    with np.load(DATA / "digits_replicates.npz", allow_pickle=False) as recorded:
        return [a - b for a, b in combinations(recorded["score"], 2)]


def covered(differences: list[np.ndarray], draws: int, n: int = 10) -> sim.Rate:
    """How often the interval of n replicates holds the mean of all that were recorded."""
    rng = np.random.default_rng(0)
    hits = 0
    for population in differences:
        for _ in range(draws):
            found = interval(rng.choice(population, n))
            assert found.low is not None
            assert found.high is not None
            hits += found.low <= population.mean() <= found.high
    return sim.Rate(hits, draws * len(differences))


def test_intervals_of_recorded_differences_cover(differences: list[np.ndarray]) -> None:
    sim.check_rate(covered(differences, draws=200), 0.95)


@pytest.mark.slow
def test_intervals_of_recorded_differences_cover_in_many_draws(differences: list[np.ndarray]) -> None:
    sim.check_rate(covered(differences, draws=2000), 0.95)


@pytest.mark.parametrize("crossed", [True, False])
def test_identical_rules_under_five_names_are_told_apart_in_at_most_one_of_twenty_comparisons(
    pool: sim.Pool,
    crossed: bool,
) -> None:
    protocol = sim.Protocol(fresh=3, crossed=crossed)
    rate = sim.whole_protocol(
        pool.validation, pool.outcomes, pool.loss, arms=RULES, trials=1000, protocol=protocol
    )
    sim.check_rate(rate, 0.05, side="above")


def test_tuning_once_and_testing_that_choice_is_caught(pool: sim.Pool) -> None:
    protocol = sim.Protocol(fresh=3, crossed=False, choose_once=True)
    rate = sim.whole_protocol(
        pool.validation, pool.outcomes, pool.loss, arms=RULES, trials=1000, protocol=protocol
    )
    with pytest.raises(AssertionError, match="is above"):
        sim.check_rate(rate, 0.05, side="above")


@pytest.mark.slow
@pytest.mark.parametrize("crossed", [True, False])
def test_identical_rules_in_many_comparisons(pool: sim.Pool, crossed: bool) -> None:
    protocol = sim.Protocol(fresh=3, crossed=crossed)
    rate = sim.whole_protocol(
        pool.validation, pool.outcomes, pool.loss, arms=RULES, trials=4000, seed=1, protocol=protocol
    )
    sim.check_rate(rate, 0.05, side="above")
