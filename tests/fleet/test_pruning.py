"""Pruning: what the policies decide on plain arrays, what the driver does with it, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fallline as fl
from fallline import layers, rules
from fallline.errors import BadValue, NotFound
from fallline.fleet import Fleet, Settings, halving, hyperband, median_rule, patience, population, pruned
from fallline.fleet.pruning import Board, Policy, rebuild
from fallline.fleet.pruning.policies import average
from fallline.fleet.pruning.populations import explored
from fallline.rules.base import RATE, UNIT
from fallline.specs import Domain, Run
from fallline.tasks import Task

from .cases import ONCE, check_same, classification, regression, train

SETTINGS = Settings(18, 7, (0, 5, 18), judge=True, weights=True)


def board(costs: Any, *, steps: Sequence[int] | None = None, going: Any = None, end: int = 100) -> Board:
    """A board on which losses decide nothing."""
    costs = np.array(costs, dtype=float)
    at = np.array(steps or range(10, 10 * costs.shape[1] + 10, 10))
    alive = np.isfinite(costs[:, -1]) if going is None else np.array(going)
    return Board(at, costs, np.zeros_like(costs), alive, end)


def column(values: Sequence[float]) -> Board:
    return board([[v] for v in values], steps=[10])


def kept(policy: Policy, seen: Board) -> list[int]:
    return [i for i, j in enumerate(policy.decide(seen)) if j == i]


DISTINCT = st.lists(st.integers(-1000, 1000), min_size=1, max_size=30, unique=True)
BY_RANK = [halving(first=10), hyperband(first=10)]


# --- successive halving and Hyperband -----------------------------------------------------------------------


@given(DISTINCT, st.integers(2, 5), st.integers(1, 4))
def test_as_many_are_left_as_the_rule_says(costs: list[int], eta: int, rungs: int):
    n, going, policy = len(costs), np.ones(len(costs), dtype=bool), halving(eta=eta, first=10)
    for k in range(1, rungs + 1):
        whole = np.where(going, costs, np.nan)[:, None].repeat(k, 1)
        left = kept(policy, board(whole, going=going))
        going = np.isin(range(n), left)
        assert len(left) == max(1, n // eta**k)
        assert sorted(costs[i] for i in left) == sorted(costs)[: len(left)], "the best of all"


@given(DISTINCT, st.randoms(use_true_random=False))
def test_who_goes_on_hangs_on_costs_alone(costs: list[int], random: Any):
    order = list(range(len(costs)))
    random.shuffle(order)
    history = [[c, c // 2, c] for c in costs]
    shuffled = [history[i] for i in order]
    for policy in (halving(first=10), median_rule(grace=0, every=10), patience(evaluations=1)):
        first, second = kept(policy, board(history)), kept(policy, board(shuffled))
        assert sorted(first) == sorted(order[i] for i in second)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.inf]), min_size=1, max_size=20))
def test_no_worse_one_goes_on_in_place_of_a_better(costs: list[float]):
    left = kept(halving(first=10), column(costs))
    out = [c for i, c in enumerate(costs) if i not in left]
    assert all(costs[i] < math.inf for i in left)
    assert all(costs[i] <= c for i in left for c in out)


@given(DISTINCT, st.integers(0, 29), st.integers(0, 500))
def test_a_run_that_does_better_goes_on_no_less(costs: list[int], i: int, gain: int):
    i %= len(costs)
    better = [c - gain - 0.5 if k == i else c for k, c in enumerate(costs)]
    for policy in BY_RANK:
        assert i not in kept(policy, column(costs)) or i in kept(policy, column(better))


def test_ties_are_decided_by_the_loss_then_by_position():
    equal = column([1.0] * 7)
    assert kept(halving(first=10), equal) == [0, 1]
    by_loss = replace(equal, losses=np.array([[5.0], [4], [3], [math.inf], [3], [9], [8]]))
    assert kept(halving(first=10), by_loss) == [2, 4]


def test_one_is_left_where_the_papers_rule_leaves_none():
    assert kept(halving(eta=3, first=10), column([2, 1])) == [1]
    assert kept(halving(eta=3, first=10), column([math.inf, 1, math.inf, math.inf])) == [1]
    assert kept(halving(eta=3, first=10), column([math.inf] * 4)) == []


@given(st.integers(2, 4), st.integers(1, 4), st.integers(1, 3))
def test_brackets_have_the_papers_sizes_and_budgets(eta: int, rungs: int, repeats: int):
    policy, steps = hyperband(eta=eta, first=2), 2 * eta**rungs
    sizes = [math.ceil((rungs + 1) / (s + 1) * eta**s - 1e-9) for s in range(rungs, -1, -1)]
    brackets = policy.dealt(repeats * sum(sizes), steps)
    assert [len(own) for own in brackets] == [repeats * size for size in sizes]
    assert sorted(i for own in brackets for i in own) == list(range(repeats * sum(sizes)))


@given(st.integers(1, 80), st.integers(2, 4))
def test_runs_are_dealt_out_evenly_whatever_their_number(count: int, eta: int):
    policy = hyperband(eta=eta, first=3)
    brackets = policy.dealt(count, 100)
    more = policy.dealt(count + 1, 100)
    assert all(set(own) <= set(wider) for own, wider in zip(brackets, more, strict=True))
    shares = np.array([len(own) for own in policy.dealt(10_000, 100)]) / 10_000
    assert np.abs(np.array([len(own) for own in brackets]) - shares * count).max() < len(brackets)


def test_a_bracket_waits_for_its_first_rung():
    policy = hyperband(eta=2, first=10)  # rungs after 10, 20, 40 and 80 of 100 steps
    brackets = policy.dealt(40, 100)
    left = kept(policy, column(range(40)))
    assert [len(set(own) & set(left)) for own in brackets] == [len(brackets[0]) // 2, *map(len, brackets[1:])]
    assert "in its bracket" in policy.reason(column(range(40)), brackets[0][-1])


# --- median rule and patience -------------------------------------------------------------------------------


def test_the_median_rule_by_hand():
    policy = median_rule(grace=20, every=10)
    seen = board([[4, 4], [3, 1], [9, 5], [5, 5]])
    # averages 4, 2, 7, 5; of the others' the median is 5, 5, 4, 4; best so far 4, 1, 5, 5
    assert kept(policy, seen) == [0, 1]
    assert kept(median_rule(grace=21, every=10), seen) == [0, 1, 2, 3]
    assert kept(policy, board([[4, 4], [9, math.inf]])) == [0], "a run without others goes on"


@given(st.floats(-1e3, 1e3), st.integers(2, 9), st.integers(1, 6))
def test_equal_runs_are_equal_to_the_median(cost: float, runs: int, rungs: int):
    """However the average of equal numbers would round."""
    assert average([cost] * rungs) == cost
    assert kept(median_rule(grace=0, every=10), board([[cost] * rungs] * runs)) == list(range(runs))


def test_the_lost_are_no_others():
    seen = board([[3, 3], [math.inf, math.inf], [math.inf, math.inf], [1, 1]])
    assert kept(median_rule(grace=0, every=10), seen) == [3]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 2))
def test_patience_looks_at_the_best_before(costs: list[int], evaluations: int, least: int):
    policy, alive = patience(evaluations=evaluations, least=float(least)), True
    for k in range(1, len(costs) + 1):
        if alive:
            alive = kept(policy, board([costs[:k]])) == [0]
            (best,) = [min(costs[: max(1, k - evaluations)])]
            recent = costs[max(1, k - evaluations) : k]
            if len(recent) == evaluations and least == 0:
                assert alive == (min(recent) < best)
            if k <= evaluations:
                assert alive


def test_patience_is_a_runs_own_affair():
    history = [[3, 2, 1], [1, 2, 3], [2, 2, 2], [9, 9, 8]]
    policy = patience(evaluations=2)
    alone = [bool(kept(policy, board([row]))) for row in history]
    assert kept(policy, board(history)) == [i for i, on in enumerate(alone) if on] == [0, 3]


# --- population-based training ------------------------------------------------------------------------------


@given(DISTINCT, st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 99))
def test_the_worst_go_on_from_the_best(costs: list[int], exploit: float, seed: int):
    n, policy = len(costs), population(every=10, exploit=exploit, seed=seed)
    decided = policy.decide(column(costs))
    size = max(1, math.floor(exploit * n)) if n > 1 else 0
    ranked = sorted(range(n), key=lambda i: costs[i])
    assert {i for i, j in enumerate(decided) if i != j} == set(ranked[n - size :] if size else [])
    assert {j for i, j in enumerate(decided) if i != j} <= set(ranked[:size])


def test_each_of_the_best_is_copied_as_often_as_another():
    costs, found = list(range(10)), np.zeros(2)
    for seed in range(500):
        decided = population(every=10, seed=seed).decide(column(costs))
        found += [decided[8:].count(0), decided[8:].count(1)]
    assert abs(found[0] - 500) < 4 * math.sqrt(1000) / 2, "four standard deviations of 1,000 throws of a coin"


def test_the_lost_are_replaced_and_nothing_is_copied_from_them():
    policy = population(every=10)
    assert policy.decide(column([math.inf, 3.0, math.inf, math.inf])) == [1, 1, 1, 1]
    assert policy.decide(column([math.inf, math.inf])) == [-1, -1]


@given(st.floats(0, 0.999), st.floats(0.1, 10))
def test_a_moved_number_stays_in_its_domain(value: float, factor: float):
    assert explored(value, factor, UNIT) in UNIT
    assert explored(value, factor, RATE) == value * factor
    assert explored(value, factor, None) == value * factor
    closed = Domain("a probability", low=0.0, high=1.0)
    assert explored(value, factor, closed) == min(1.0, value * factor)


def test_a_decay_rate_moves_by_its_distance_from_one():
    run = Run(rules.adam(lr=0.01, beta1=0.9), seed=2)
    policy = population(every=10, names=("lr", "beta1"), perturb=(0.5, 0.5))
    moved = policy.explored(run, 10, 0)
    assert moved.rule == rules.adam(lr=0.005, beta1=0.95)
    assert moved.seed == 2


def test_numbers_of_chains_losses_and_models_are_explored():
    task = dropping()
    rule = fl.chain(fl.clip_norm(1.0), rules.sgd(lr=0.1))
    runs = [Run(rule, loss={"1.weight": w}, model={"dropout": d}) for w, d in ((0.1, 0.1), (0.2, 0.9))]
    runs += [Run(rules.sgd(lr=0.3), loss={"1.weight": 0.1})]
    policy = population(every=10, perturb=(2.0, 2.0)).named(runs, list(task.numbers))
    assert policy.names == ("loss.1.weight", "model.dropout")
    moved = policy.explored(runs[1], 10, 0)
    assert (moved.loss, moved.model) == ({"1.weight": 0.4}, {"dropout": 1.0})
    named = replace(policy, names=("1.lr",)).named(runs, [])
    assert named.explored(runs[0], 10, 0).rule == fl.chain(fl.clip_norm(1.0), rules.sgd(lr=0.2))
    assert named.explored(runs[2], 10, 0) == runs[2]


def dropping() -> Task:
    from torch import nn

    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.1), nn.Linear(5, 3))  # noqa: E731
    return classification(make)


# --- in a fleet ---------------------------------------------------------------------------------------------


def rates(count: int, **options: Any) -> list[Run]:
    return [Run(rules.adam(lr=10 ** (-3 + 2 * i / count)), seed=i % 3, **options) for i in range(count)]


def test_survivors_are_packed_into_full_blocks_and_steps_are_saved():
    task, runs = classification(), rates(150)
    with Fleet([task], workers=0, executor="traced") as fleet:
        found = pruned(fleet, [(0, run) for run in runs], SETTINGS, halving(eta=3, first=2))
    assert [(s.until, s.runs, s.blocks) for s in found.stretches] == [(2, 150, 3), (6, 50, 1), (18, 16, 1)]
    assert found.spent == 150 * 2 + 50 * 4 + 16 * 12
    assert found.whole == 150 * 18


def test_progress_tells_the_steps_that_are_trained():
    told: list[int] = []
    runs = rates(9)
    fl.fleet.run(
        classification(), runs, steps=18, prune=halving(eta=3, first=2), progress=told.append, **ONCE
    )
    assert sum(told) == 9 * 2 + 3 * 4 + 1 * 12


def test_more_evaluations_change_no_number_of_a_run():
    """Its training loss is averaged over other stretches; weights and all that is measured at a step are the same."""
    task, asked = classification(), [(0, run) for run in rates(3)]
    more = replace(SETTINGS, evaluations=(0, 1, 5, 6, 11, 18))
    with Fleet([task], workers=0, executor="traced") as fleet:
        ((_, few),) = fleet.train(asked, SETTINGS)
        ((_, many),) = fleet.train(asked, more)
    for one, other in zip(few, many, strict=True):
        assert all(w.tobytes() == other.weights[k].tobytes() for k, w in one.weights.items())
        for name in set(one.series) - {"train_loss"}:
            at = np.isin(other.series[name].steps, one.series[name].steps)
            assert other.series[name].values[at].tobytes() == one.series[name].values.tobytes(), name


def test_runs_of_other_widths_compete_and_leave_their_own_weights():
    def model(width: int = 5) -> Any:
        return layers.mlp(6, width, 3, activation="tanh")

    task = classification(model)
    runs = [Run(rules.adam(lr=0.01), seed=i, model={"width": 3 + i}) for i in range(6)]
    found = train(task, runs, prune=halving(eta=2, first=3))
    assert sorted(record.outcome.status for record in found) == ["finished"] + ["stopped"] * 5
    for i, record in enumerate(found):
        assert record.weights["1.weight"].shape[0] == 3 + i, "not those of the program"
        if record.outcome.status == "stopped":
            check_same_weights(record, train(task, [runs[i]], steps=record.outcome.step)[0])


def check_same_weights(one: Any, other: Any) -> None:
    assert all(w.tobytes() == other.weights[name].tobytes() for name, w in one.weights.items())


def test_several_tasks_compete_in_one_call():
    tasks = [classification(), classification(lambda: layers.mlp(6, 4, 3, activation="relu"))]
    asked = [(i % 2, run) for i, run in enumerate(rates(8))]
    with Fleet(tasks, workers=0, executor="traced") as fleet:
        found = pruned(fleet, asked, SETTINGS, halving(eta=2, first=2)).records
    assert sum(record.outcome.status == "finished" for record in found) == 1
    assert [record.run for record in found] == [run for _, run in asked]


def test_what_survives_is_judged_and_what_does_not_is_a_sentence():
    found = fl.fleet.run(classification(), rates(9), steps=18, prune=halving(eta=3, first=2), **ONCE)
    (best,) = [record for record in found if record.outcome.status == "finished"]
    assert "test_score" in best.outcome.numbers
    out = [record.outcome for record in found if record.outcome.status == "stopped"]
    assert {outcome.step for outcome in out} == {2, 6}
    assert all("by validation score, and " in outcome.sentence for outcome in out)
    assert all("validation_score" in outcome.numbers for outcome in out)


def test_lower_scores_are_better_where_the_metric_says_so():
    """By mse or by its negative, called higher is better, the same runs are given up."""
    runs = rates(9)
    ours = train(regression(), runs, prune=halving(eta=3, first=2))
    other = regression(score=lambda p, y: -((p - y) ** 2).sum(1), better="higher")
    theirs = train(other, runs, prune=halving(eta=3, first=2))
    assert [r.outcome.step for r in ours] == [r.outcome.step for r in theirs]
    errors = [
        dict(zip(r.series["validation_score"].steps, r.series["validation_score"].values, strict=True))
        for r in ours
    ]
    went_on = {i for i, record in enumerate(ours) if record.outcome.step > 2}
    assert went_on == set(sorted(range(9), key=lambda i: errors[i][2])[:3])


def test_a_run_without_a_finite_score_is_given_up_in_words():
    def score(prediction: Any, target: Any) -> Any:
        return (prediction[:, 0] * 0 - 1).sqrt()

    task = classification(score=score, better="higher")
    found = train(task, rates(4), prune=halving(eta=2, first=3))
    assert {r.outcome.sentence for r in found} == {
        "given up after 3 steps: its validation score was not a finite number"
    }


def test_where_all_diverge_nothing_is_left_to_train():
    runs = [Run(rules.sgd(lr=1e300), seed=i) for i in range(3)]
    for policy in (halving(first=2), population(every=2, names=("lr",)), patience(evaluations=1)):
        found = train(classification(), runs, prune=policy)
        assert [record.outcome.status for record in found] == ["diverged"] * 3
        check_same(found, train(classification(), runs))


def test_a_lineage_tells_what_a_run_became():
    runs = [*rates(4, tags={"arm": "a"}), Run(rules.sgd(lr=1e300), seed=5, tags={"arm": "b"})]
    found = train(classification(), runs, prune=population(every=4, seed=1))
    lost = found[4]
    assert (lost.run.rule, lost.run.seed, lost.run.tags["arm"]) == (runs[4].rule, 5, "b")
    first = lost.run.tags["lineage"][0]
    assert (first["step"], first["task"]) == (4, "Sequential")
    became = Run.rebuild(first["run"])
    (factor,) = {became.rule.numbers["lr"] / runs[first["from"]].rule.numbers["lr"]}
    assert factor == pytest.approx(0.8) or factor == pytest.approx(1.25)
    assert became.seed == 5, "its own seed, and with it its own order and noise"
    assert lost.outcome.status == "finished"
    before = lost.series["validation_loss"]
    assert np.isnan(before.values[(before.steps > 1) & (before.steps <= 4)]).all()
    assert np.isfinite(before.values[before.steps > 4]).all()


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: halving(eta=1, first=2), r"halving\(eta=1\): eta must be a whole number of at least 2"),
        (lambda: hyperband(first=0), r"hyperband\(first=0\): first must be a whole number of at least 1"),
        (lambda: median_rule(grace=-1, every=2), r"grace must be a whole number of at least 0"),
        (
            lambda: patience(evaluations=True),
            r"patience\(evaluations=True\): evaluations must be a whole number",
        ),
        (
            lambda: patience(evaluations=2, least=-1.0),
            r"\(least=-1.0\): least must be a number from 0 to inf",
        ),
        (lambda: population(every=2, exploit=0.6), r"exploit must be a number from 0 to 0.5"),
        (lambda: population(every=2, perturb=(0.0, 2.0)), r"\): perturb must be two factors above 0"),
        (lambda: population(every=2, perturb=(2.0,)), r"\): perturb must be two factors above 0"),
        (
            lambda: halving(first=2, metric="accuracy"),
            r"runs compete by metric='score' or metric='loss', both on validation, got 'accuracy'",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused(make: Any, sentence: str):
    with pytest.raises(BadValue, match=sentence):
        make()


def test_a_policy_that_decides_nothing_is_refused():
    with pytest.raises(
        BadValue,
        match=r"halving\(eta=3, first=40.* decides nothing in a training of 12 steps: have it decide earlier, or train without it",
    ):
        train(classification(), rates(2), prune=halving(first=40))


def test_a_population_with_nothing_to_explore_is_refused():
    runs = [Run(rules.sgd(lr=0.1), seed=i) for i in range(3)]
    with pytest.raises(
        BadValue, match="there is nothing to explore, as the runs differ in no number outside of sch"
    ):
        train(classification(), runs, prune=population(every=3))
    with pytest.raises(NotFound, match=r"names=…\): no run gives a number 'rl' a value; known: lr"):
        train(classification(), runs, prune=population(every=3, names=("rl",)))


def test_tasks_that_are_measured_differently_do_not_compete():
    tasks = [classification(), regression()]
    with (
        Fleet(tasks, workers=0, executor="traced") as fleet,
        pytest.raises(
            BadValue,
            match="cannot compete by validation score, as the tasks measure it in different ways: prune",
        ),
    ):
        pruned(fleet, [(i, run) for i, run in enumerate(rates(2))], SETTINGS, halving(first=2))


def test_an_unknown_policy_is_not_rebuilt():
    with pytest.raises(NotFound, match="no way to prune is called 'halfing'; did you mean 'halving'"):
        rebuild({"prune": "halfing", "first": 3})
