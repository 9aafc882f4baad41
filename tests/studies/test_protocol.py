"""The decisions of a comparison: worked examples, properties, and the whole protocol by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import simulations as sim
from hypothesis import assume, given
from hypothesis import strategies as st

from fallline.errors import BadValue
from fallline.specs import Axis, Domain, axis, log_axis
from fallline.studies.protocol import Choice, choose, grow, steps_to_target, target, working_range

nan = math.nan

# --- choose -----------------------------------------------------------------------------------------------


def test_the_best_mean_over_seeds_is_chosen():
    assert choose([[0.1, 0.9], [0.7, 0.7], [0.6, 0.6]]) == Choice(1, boundary=False)
    assert choose([[0.1, 0.9], [0.7, 0.7], [0.6, 0.6]], better="lower") == Choice(0, boundary=True)


def test_a_setting_with_a_diverged_seed_is_not_eligible():
    scores = [[0.5, 0.5], [0.6, 0.6], [0.9, 0.9]]
    assert choose(scores, finite=[[1, 1], [1, 1], [1, 0]]) == Choice(1, boundary=False)
    assert choose([[0.5, 0.5], [0.6, 0.6], [0.9, nan]]) == Choice(1, boundary=False)
    assert choose([[nan], [math.inf]]) == Choice(None, boundary=False)


def test_ties_go_to_the_lower_loss():
    scores = [[0.9, 0.7], [0.7, 0.9], [0.8, 0.8], [0.1, 0.1]]
    assert choose(scores, [[0.4, 0.4], [0.1, 0.5], [0.5, 0.5], [0.0, 0.0]]).index == 1


def test_an_unknown_loss_loses_a_tie():
    assert choose([[0.9], [0.9], [0.1]], [[nan], [7.0], [0.0]]).index == 1
    assert choose([[0.9], [0.9], [0.9]], [[nan], [nan], [nan]]).index == 1


def test_ties_then_go_to_the_middle():
    assert choose([[1.0]] * 5) == Choice(2, boundary=False)
    assert (
        choose([[1.0], [1.0], [0.0], [0.0]]).index == 1
    )  # of two middle ones, that nearer to the middle of the axis
    assert choose([[0.0], [0.0], [1.0], [1.0], [1.0], [0.0]]).index == 3


def test_means_that_differ_by_rounding_tie():
    a = [0.1, 0.2, 0.3]  # the sum depends on the order
    assert choose([a, a[::-1], [0.3, 0.1, 0.2]], [[2.0] * 3, [2.0] * 3, [1.0] * 3]).index == 2


def test_the_edge_of_what_was_searched_is_a_boundary():
    assert [choose(np.eye(4)[i][:, None]).boundary for i in range(4)] == [True, False, False, True]
    assert choose([[0.3, 0.4]]) == Choice(0, boundary=False)  # a single setting was not searched for


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32), st.sampled_from(["higher", "lower"]))
def test_the_choice_is_eligible_and_no_eligible_setting_is_better(settings, seeds, seed, better):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (settings, seeds)) / 4
    finite = rng.random((settings, seeds)) < 0.8
    found = choose(scores, rng.random((settings, seeds)), finite, better=better)
    eligible = finite.all(axis=1)
    assert (found.index is None) == (not eligible.any())
    if found.index is not None:
        means = scores.mean(axis=1) * (1 if better == "higher" else -1)
        assert eligible[found.index]
        assert means[found.index] >= means[eligible].max() - 1e-12
    places = rng.permutation(seeds)
    assert choose(scores[:, places], None, finite[:, places]) == choose(scores, None, finite)


# --- targets ----------------------------------------------------------------------------------------------


def test_target_by_hand():
    assert target(0.1, 0.9) == pytest.approx(0.86)
    assert target(2.3, 0.3, better="lower") == pytest.approx(0.4)
    assert target(0.1, 0.9, share=1) == 0.9


@pytest.mark.parametrize(
    ("initial", "best"), [(0.5, 0.5), (0.5, 0.4), (nan, 0.5), (0.5, None), (None, 1.0), (0.1, math.inf)]
)
def test_no_gain_no_target(initial, best):
    assert target(initial, best) is None


def test_the_first_evaluated_step_at_the_target_counts():
    assert steps_to_target([0, 10, 20, 30], [0.1, nan, 0.8, 0.9], 0.8) == 20
    assert steps_to_target([0, 10, 20], [0.1, 0.9, 0.2], 0.8) == 10
    assert steps_to_target([0, 10, 20], [2.0, 1.0, 0.5], 1.0, better="lower") == 10
    assert steps_to_target([0, 10], [0.1, None], 0.8) is None
    assert steps_to_target([0, 10], [0.1, math.inf], 0.8) is None
    assert steps_to_target([0, 10], [0.1, 0.2], None) is None
    assert steps_to_target([], [], 0.5) is None


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.01, 1), st.sampled_from(["higher", "lower"]))
def test_the_best_arm_reaches_its_own_target(initial, best, share, better):
    goal = target(initial, best, better=better, share=share)
    if goal is not None:
        assert steps_to_target([0, 5], [None, best], goal, better=better) == 5


# --- working range ----------------------------------------------------------------------------------------


def test_crossings_are_interpolated_in_decades():
    found = working_range([1e-4, 1e-3, 1e-2, 1e-1], [0.5, 0.9, 0.9, 0.1], 0.7)
    assert (found.low, found.high) == (pytest.approx(10**-3.5), pytest.approx(10**-1.75))
    assert found.decades == pytest.approx(1.75)
    assert not found.open_low
    assert not found.open_high


def test_a_range_that_touches_the_end_is_open():
    found = working_range([1e-3, 1e-2, 1e-1], [0.9, 0.9, 0.9], 0.7)
    assert (found.low, found.high, found.decades) == (
        pytest.approx(1e-3),
        pytest.approx(1e-1),
        pytest.approx(2),
    )
    assert found.open_low
    assert found.open_high


def test_toward_divergence_nothing_is_interpolated():
    found = working_range([1e-3, 1e-2, 1e-1], [0.9, 0.9, None], 0.7)
    assert found.high == pytest.approx(1e-2)
    assert not found.open_high


def test_the_widest_stretch_counts():
    found = working_range([1e-4, 1e-3, 1e-2, 1e-1, 1.0], [0.9, 0.0, 0.9, 0.9, nan], 0.9)
    assert (found.low, found.high) == (pytest.approx(1e-2), pytest.approx(1e-1))


def test_no_rate_reaches_no_range():
    assert working_range([1e-3, 1e-2], [0.1, nan], 0.7) is None
    assert working_range([1e-3, 1e-2], [0.1, 0.2], None) is None


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_ranges_shrink_with_the_target_and_turn_with_the_axis(scores, goal):
    rates = [10.0**i for i in range(len(scores))]
    found = working_range(rates, scores, goal)
    harder = working_range(rates, scores, goal + 0.04)
    mirrored = working_range([1 / rate for rate in reversed(rates)], scores[::-1], goal)
    negated = working_range(rates, [None if v is None else -v for v in scores], -goal, better="lower")
    assert (found is None) == (not any(v is not None and v >= goal - 1e-12 for v in scores))
    assert negated == found
    if found is None:
        assert harder is None
        return
    assert mirrored.decades == pytest.approx(found.decades, abs=1e-9)
    assert found.decades == pytest.approx(math.log10(found.high / found.low), abs=1e-9)
    assert harder is None or harder.decades <= found.decades + 1e-9
    assert rates[0] * (1 - 1e-9) <= found.low <= found.high <= rates[-1] * (1 + 1e-9)


# --- grow -------------------------------------------------------------------------------------------------


def test_a_logarithmic_axis_goes_on_with_its_ratio():
    assert grow(axis(0.01, 0.1, 1.0), [2, 2, 0], 2) == (10.0, 100.0)
    assert grow(axis(0.01, 0.1, 1.0), [0, 0, 1], 1) == (0.001,)
    assert grow(log_axis(0.01, 1, 5), [4], 2) == (3.16228, 10.0)


def test_a_linear_axis_goes_on_with_its_step():
    assert grow(axis(0.0, 0.5, 1.0, log=False), [2], 2) == (1.5, 2.0)
    assert grow(axis(0.0, 0.5, 1.0, log=False), [0], 2) == (-1.0, -0.5)


def test_an_arm_with_its_optima_inside_grows_on_the_nearer_side():
    values = log_axis(0.001, 10, 5)
    assert grow(values, [3, 2, 3], 1) == (100.0,)
    assert grow(values, [1, 2, 2], 1) == (0.0001,)
    assert grow(values, [0, 4, 3], 1) == (100.0,)  # the ends are even: the others decide
    assert grow(values, [2, None], 1) == (0.0001,)  # nothing to choose between
    assert grow(values, [None, None], 1) == (0.0001,)


def test_what_does_not_fit_goes_to_the_other_side():
    momentum = Domain("momentum", 0.0, 1.0, open_high=True)
    assert grow(axis(0.5, 0.7, 0.9, log=False), [2, 2], 2, within=momentum) == (0.1, 0.3)
    assert grow(axis(0.3, 0.5, 0.7, log=False), [2, 2], 2, within=momentum) == (0.1, 0.9)


@given(
    st.integers(2, 6),
    st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=8),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_arm_gets_equally_many_new_values(size, chosen, points, log):
    assume(all(index is None or index < size for index in chosen))
    old = Axis(tuple(2.0**i if log else 3.0 * i + 1 for i in range(size)), log=log)
    new = grow(old, chosen, points)
    assert len(new) == len(set(new) - set(old.values)) == points
    together = sorted((*old.values, *new))
    gaps = np.diff(np.log(together) if log else together)
    assert gaps == pytest.approx(np.full(len(gaps), gaps[0]), rel=1e-4)


# --- wrong calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose([0.1, 0.2]), r"\[settings, seeds\], one of each at least; got \(2,\)"),
        (lambda: choose([[]]), r"got \(1, 0\)"),
        (
            lambda: choose([[0.1]], [[0.1, 0.2]]),
            r"losses must have the shape of the scores, \(1, 1\); got \(1, 2\)",
        ),
        (lambda: choose([[0.1]], None, [[True, True]]), r"finite must have the shape"),
        (lambda: choose([[0.1]], better="best"), "'higher' or 'lower'; got 'best'"),
        (lambda: target(0, 1, share=95), "above 0 and at most 1; got 95"),
        (lambda: target(0, 1, better="up"), "'higher' or 'lower'; got 'up'"),
        (lambda: steps_to_target([0, 1], [0.1], 0.5), "got 2 steps and 1 scores"),
        (lambda: steps_to_target([1, 1], [0.1, 0.2], 0.5), "steps must increase"),
        (lambda: working_range([1.0, 0.1], [0.1, 0.2], 0.5), r"rates increase from above 0.*\[1.0, 0.1\]"),
        (lambda: working_range([0.0, 0.1], [0.1, 0.2], 0.5), r"rates increase from above 0"),
        (lambda: grow(axis(0.1), [0], 1), r"two values at least, in increasing order; got \(0.1,\)"),
        (lambda: grow(axis(0.1, 0.01), [0], 1), "in increasing order"),
        (lambda: grow(axis(0.1, 1), [2], 1), r"indices from 0 to 1; got points=1, chosen=\[2\]"),
        (lambda: grow(axis(0.1, 1), [0], 0), "at least one point"),
        (
            lambda: grow(axis(0.2, 0.8, log=False), [0], 1, within=Domain("dropout", 0.0, 1.0)),
            r"axis\(0.2, 0.8\) cannot grow by 1 values: dropout must be finite and in \[0, 1\]",
        ),
    ],
)
def test_a_wrong_call_teaches(call, message):
    with pytest.raises(BadValue, match=message):
        call()


# --- the whole protocol -----------------------------------------------------------------------------------

POOL = sim.synthetic_pool(0)


def test_identical_arms_are_rarely_told_apart():
    """At most 5 % of comparisons may call any of three identical arms different; fewer is allowed."""
    rate = sim.whole_protocol(POOL.validation, POOL.outcomes, POOL.loss, arms=3, trials=1000, seed=1)
    sim.check_rate(rate, 0.05, side="above")


def test_identical_arms_are_rarely_told_apart_by_scores_alone():
    protocol = sim.Protocol(crossed=False)
    rate = sim.whole_protocol(
        POOL.validation, POOL.outcomes, POOL.loss, trials=1000, seed=2, protocol=protocol
    )
    sim.check_rate(rate, 0.05, side="above")


def test_choosing_once_tells_identical_arms_apart():
    """The shortcut that the protocol replaces fails the same check, so the check can fail."""
    protocol = sim.Protocol(choose_once=True)
    rate = sim.whole_protocol(
        POOL.validation, POOL.outcomes, POOL.loss, trials=1000, seed=3, protocol=protocol
    )
    with pytest.raises(AssertionError, match=r"is above 0\.05"):
        sim.check_rate(rate, 0.05, side="above")


def test_a_better_arm_is_found():
    """Power: an arm whose examples are much easier is found more often than false alarms may be raised."""
    better = sim.synthetic_pool(4, skill=4.0)
    rate = sim.compared([POOL, better], 100, 4, sim.Protocol(crossed=False))
    with pytest.raises(AssertionError, match=r"is above 0\.05"):
        sim.check_rate(rate, 0.05, side="above")


def test_a_pool_survives_its_file(tmp_path):
    POOL.save(tmp_path / "pool.npz")
    again = sim.Pool.load(tmp_path / "pool.npz")
    for name in ("validation", "loss", "outcomes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(POOL, name))


def test_seeds_are_fresh():
    rng = np.random.default_rng(0)
    tuning, fresh = sim.drawn_seeds(POOL, rng, sim.Protocol(tuning=3, fresh=2))
    assert (len(tuning), len(fresh)) == (3, 2)
    assert not set(tuning) & set(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("arms", [2, 5])
@pytest.mark.parametrize("pool", [0, 1, 2])
def test_identical_arms_are_rarely_told_apart_in_any_pool(arms, pool):
    recorded = sim.synthetic_pool(pool)
    rate = sim.whole_protocol(
        recorded.validation, recorded.outcomes, recorded.loss, arms=arms, trials=2000, seed=pool
    )
    sim.check_rate(rate, 0.05, side="above")
