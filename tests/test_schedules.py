"""What the battery of schedules does not say: exact values, steps, wrong calls, and torch's schedulers."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fallline import registry, schedules, specs
from fallline.errors import BadValue, NotFound
from fallline.schedules import (
    constant,
    cosine,
    cosine_restarts,
    exponential,
    inverse_sqrt,
    inverse_time,
    joined,
    multi_step,
    one_cycle,
    polynomial,
    scaled,
    step,
    values,
    warm_up,
    warm_up_stable_decay,
)


def of_torch(make, steps):
    """The rates that a torch scheduler gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


# --- torch's schedulers, drawn ------------------------------------------------------------------------------

whole, part = st.integers(1, 40), st.floats(0.05, 0.95)


def torch_pairs(draw):
    """Schedules from a rate of 0.5, each with the torch scheduler that it equals, and for how many steps."""
    n, m, share, other = draw(whole), draw(whole), draw(part), draw(part)
    top, places = max(2, n) * share / 2, draw(st.lists(whole, min_size=1, max_size=4))
    total = max(4, n + m)
    peak = (share * total - 1) / (total - 1)  # torch's place of it, as a share of our steps
    cycle = {"max_lr": 0.5, "total_steps": total, "pct_start": share, "cycle_momentum": False}
    pairs = {
        "constant": (joined(constant(0.5 * share), constant(0.5), lengths=(n,)), lr_scheduler.ConstantLR, {"factor": share, "total_iters": n}),
        "step": (step(0.5, share, n), lr_scheduler.StepLR, {"step_size": n, "gamma": share}),
        "multi_step": (multi_step(0.5, share, places), lr_scheduler.MultiStepLR, {"milestones": places, "gamma": share}),
        "exponential": (exponential(0.5, share), lr_scheduler.ExponentialLR, {"gamma": share}),
        "polynomial": (polynomial(0.5, n, power=4 * share), lr_scheduler.PolynomialLR, {"total_iters": n, "power": 4 * share}),
        "cosine": (cosine(0.5, n, end=share), lr_scheduler.CosineAnnealingLR, {"T_max": n, "eta_min": share}),
        "restarts": (cosine_restarts(0.5, n, share, 1 + m % 3), lr_scheduler.CosineAnnealingWarmRestarts, {"T_0": n, "T_mult": 1 + m % 3, "eta_min": share}),
        "warm_up": (warm_up(n, to=0.5 * other, from_=0.5 * share), lr_scheduler.LinearLR, {"start_factor": share, "end_factor": other, "total_iters": n}),
        "inverse_time": (inverse_time(0.5 / top, 1 / top), lr_scheduler.LambdaLR, {"lr_lambda": lambda t: 1 / (1 + top * t)}),
        "inverse_sqrt": (inverse_sqrt(0.5), lr_scheduler.LambdaLR, {"lr_lambda": lambda t: (t + 1) ** -0.5}),
        "scaled": (scaled(cosine(1.0, n), 0.5), lr_scheduler.LambdaLR, {"lr_lambda": lambda t: (1 + math.cos(math.pi * min(t / n, 1))) / 2}),
    }  # fmt: skip
    if 0 < peak < 1:
        pairs["one_cycle"] = (one_cycle(0.5, total - 1, peak), lr_scheduler.OneCycleLR, cycle)
    last = {"cosine": n + 1, "one_cycle": total}
    return {name: (*pair, last.get(name, 60)) for name, pair in pairs.items()}


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_torchs_schedulers_give_the_same_rates(data):
    """Where torch goes on and we do not (a cosine that rises again, a cycle that raises), up to the end."""
    for name, (schedule, scheduler, arguments, count) in torch_pairs(data.draw).items():
        rates = of_torch(lambda o, make=scheduler, a=arguments: make(o, **a), count)
        near = pytest.approx(rates, rel=1e-10, abs=1e-13)
        assert schedule.at(torch.arange(count)).tolist() == near, (name, schedule)


@settings(deadline=None, max_examples=25)
@given(whole, whole, part)
def test_joined_equals_torchs_sequence(n, m, share):
    def sequence(o):
        first = lr_scheduler.LinearLR(o, start_factor=share, total_iters=n)
        then = lr_scheduler.CosineAnnealingLR(o, T_max=m + 60)
        return lr_scheduler.SequentialLR(o, [first, then], milestones=[n])

    both = joined(warm_up(n, to=0.5, from_=0.5 * share), cosine(0.5, m + 60), lengths=(n,))
    assert both.at(torch.arange(60)).tolist() == pytest.approx(of_torch(sequence, 60), rel=1e-9)


# --- bounds and slopes, for any numbers ---------------------------------------------------------------------

sizes, lengths = st.floats(1e-6, 1e3), st.floats(1.0, 300.0)
times = torch.arange(200)
between_steps = torch.linspace(0, 200, 997, dtype=torch.float64)


def falls(rates):
    return len(rates) < 2 or bool((rates.diff() <= 1e-15 * rates.abs().max()).all())


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, lengths, part, st.floats(0.1, 5.0))
def test_what_comes_down_never_rises_and_stays_within_its_ends(one, other, n, share, power):
    low, high = sorted((one, other))
    inside = (cosine(high, n, low), polynomial(high, n, low, power), warm_up(n, to=low, from_=high))
    open_ended = (
        step(high, share, n),
        exponential(high, share, n),
        inverse_time(high, n),
        inverse_sqrt(high, n),
    )
    for steps in (times, between_steps):
        for schedule in (*inside, *open_ended, multi_step(high, share, (n, 3.5, n / 2))):
            rates = schedule.at(steps)
            assert falls(rates), schedule
            assert bool((rates >= 0).all())
        for schedule in inside:
            rates = schedule.at(steps)
            assert bool((rates >= low * (1 - 1e-12)).all()), schedule
            assert bool((rates <= high * (1 + 1e-12)).all()), schedule
            assert (schedule.at(0), schedule.at(301)) == (high, low)


@settings(deadline=None, max_examples=50)
@given(sizes, lengths, part, st.floats(0.0, 90.0), st.floats(0.2, 3.0))
def test_what_goes_up_and_down_has_one_peak(peak, n, share, phase, power):
    for schedule, top in (
        (one_cycle(peak, n, share), share * n),
        (warm_up_stable_decay(peak, phase, 20.0, n, 0.0, power), phase),
        (warm_up_stable_decay(peak, phase, 0.0, n, 0.0, power), phase),
    ):
        rates = schedule.at(between_steps)
        assert falls(-rates[between_steps <= top]), schedule
        assert falls(rates[between_steps >= top]), schedule
        assert bool((rates <= peak * (1 + 1e-12)).all())
        assert float(schedule.at(torch.tensor(top, dtype=torch.float64))) == pytest.approx(peak)


@settings(deadline=None, max_examples=50)
@given(sizes, lengths, st.floats(1.0, 4.0), st.integers(0, 3))
def test_restarts_begin_at_the_start_and_fall_until_the_next(high, n, growth, cycle):
    schedule = cosine_restarts(high, n, high / 10, growth)
    starts = list(itertools.accumulate((n * growth**i for i in range(cycle + 1)), initial=0.0))
    begin, end = starts[cycle], starts[cycle + 1]
    inside = begin + (end - begin) * torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    rates = schedule.at(inside)
    assert falls(rates)
    assert float(rates[0]) == pytest.approx(high, rel=1e-4)
    assert float(rates[-1]) == pytest.approx(high / 10, rel=1e-4)


def test_restarts_begin_at_their_very_step_however_late():
    for n, growth in ((10, 1), (7, 2), (1, 3), (100, 1)):
        schedule, begin, length = cosine_restarts(0.3, n, 0.1, growth), 0, n
        for _ in range(12):
            assert schedule.at(begin) == 0.3
            assert length == 1 or schedule.at(begin + length - 1) < 0.3
            begin, length = begin + length, length * growth
    assert cosine_restarts(0.3, 10).at(10**7) == 0.3


# --- exact values, ends, and beyond them --------------------------------------------------------------------


def test_first_last_and_beyond():
    assert [polynomial(0.4, 8, 0.1, 3.0).at(k) for k in (0, 8, 9, 10**9)] == [0.4, 0.1, 0.1, 0.1]
    assert [one_cycle(0.5, 10, 0.5, 5.0, 50.0).at(k) for k in (0, 5, 10, 11)] == [0.1, 0.5, 0.01, 0.01]
    phases = warm_up_stable_decay(0.5, 4, 3, 2, 0.1)
    assert phases.at(torch.arange(12)).tolist() == pytest.approx(
        [0, 0.125, 0.25, 0.375, *[0.5] * 4, 0.3, 0.1, 0.1, 0.1]
    )
    assert [phases.at(k) for k in (0, 4, 7, 9, 10**9)] == [0.0, 0.5, 0.5, 0.1, 0.1]
    assert warm_up_stable_decay(0.5, 0, 0, 0, 0.1).at(0) == 0.1
    assert warm_up_stable_decay(0.5, 0, 1, 0, 0.1).at(torch.arange(3)).tolist() == [0.5, 0.1, 0.1]
    assert multi_step(1.0, 0.5, (0, 2, 2)).at(torch.arange(4)).tolist() == [0.5, 0.5, 0.125, 0.125]
    assert multi_step(1.0, 0.0, (2,)).at(torch.arange(4)).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert exponential(1.0, 2.0).at(10) == 1024.0


def test_lengths_and_steps_may_be_fractions():
    half = torch.tensor([0.5, 2.5], dtype=torch.float64)
    assert warm_up(2.5, to=1.0).at(half).tolist() == [0.2, 1.0]
    assert cosine(1.0, 2.5).at(half)[1] == 0.0
    assert exponential(1.0, 0.25, every=2.5).at(half).tolist() == pytest.approx([0.25**0.2, 0.25])
    assert step(1.0, 0.5, every=2.5).at(torch.tensor([2, 3, 5])).tolist() == [1.0, 0.5, 0.25]
    assert inverse_sqrt(1.0, offset=0.5).at(half)[0] == 1.0
    assert joined(constant(1.0), constant(2.0), lengths=(2.5,)).at(torch.tensor([2, 3])).tolist() == [
        1.0,
        2.0,
    ]


def test_a_steps_square_root_is_the_schedule_of_attention():
    """d^−½ · min(t^−½, t · w^−1.5), t counted from 1, is a warm-up and an inverse square root, joined."""
    width, warm = 64, 40
    peak = (width * warm) ** -0.5
    ours = joined(
        warm_up(warm - 1, to=peak, from_=peak / warm),
        inverse_sqrt(width**-0.5, offset=warm),
        lengths=(warm - 1,),
    )
    for t in range(1, 200):
        assert ours.at(t - 1) == pytest.approx(width**-0.5 * min(t**-0.5, t * warm**-1.5), rel=1e-12)


def test_inverse_time_counts_from_one():
    assert [inverse_time(0.3).at(k) for k in range(3)] == [0.3, 0.15, 0.3 / 3]
    assert inverse_time(0.3, offset=10).at(0) == 0.03


def test_step_goes_on_falling():
    assert step(1.0, factor=0.9999, every=1).at(100_000) == pytest.approx(0.9999**100_000, rel=1e-9)
    assert step(1.0, factor=0.0, every=10).at(torch.tensor([9, 10])).tolist() == [1.0, 0.0]


def test_cosine_meets_its_ends_exactly_and_stays_there():
    schedule = cosine(0.5, 50, end=0.1)
    assert schedule.at(0) == 0.5
    assert schedule.at(50) == schedule.at(51) == schedule.at(10**9) == 0.1


def test_warm_up_meets_its_ends_exactly():
    schedule = warm_up(7, to=0.3, from_=0.1)
    assert schedule.at(0) == 0.1
    assert schedule.at(7) == schedule.at(8) == 0.3


def test_joined_without_a_step_unseen():
    schedule = joined(warm_up(2, to=1.0), constant(5.0), inverse_time(1.0), lengths=(2, 3))
    assert schedule.at(torch.arange(8)).tolist() == [0.0, 0.5, 5.0, 5.0, 5.0, 1.0, 0.5, 1 / 3]
    assert joined(constant(1.0), constant(2.0), lengths=(0,)).at(0) == 2.0


def test_scaled_scales():
    assert scaled(cosine(1.0, 10), 0.3).at(0) == 0.3
    assert scaled(scaled(constant(2.0), 3.0), -1.0).at(4) == -6.0


def test_values_are_a_column_for_numbers_and_schedules():
    steps = torch.arange(2, 5)
    assert values(3, steps).tolist() == [3.0, 3.0, 3.0]
    assert values(inverse_time(1.0), steps).tolist() == [1 / 3, 1 / 4, 1 / 5]
    assert values(torch.tensor(0.25), steps).dtype == torch.float64
    assert values(1.0, steps[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: values(specs.axis(1.0, 2.0), torch.arange(2)), r"a hyperparameter has a value for each run .* axis\(1, 2\)"),
        (lambda: values("0.1", torch.arange(2)), "a hyperparameter is a number or a schedule, got '0.1'"),
        (lambda: values(None, torch.arange(2)), "is a number or a schedule, got None"),
        (lambda: constant(0.1).at(-1), "steps are counted from 0, got -1"),
        (lambda: constant(0.1).at(1.5), "a step is a whole number or a tensor of whole numbers, got 1.5"),
        (lambda: cosine(0.1), "cosine takes start, steps, end: missing a required argument: 'steps'"),
        (lambda: cosine(0.1, 0), r"cosine\(steps=0\): steps is a number of steps and must be at least 1; got 0"),
        (lambda: cosine(0.1, 10, stop=1), "cosine takes start, steps, end: got an unexpected keyword argument 'stop'"),
        (lambda: constant(math.inf), r"constant\(value=inf\): .* must be a finite number"),
        (lambda: constant(constant(1.0)), "a number, not a schedule"),
        (lambda: multi_step(0.1, 0.5, ()), r"milestones are the steps at which multi_step drops, .* got \(\)"),
        (lambda: multi_step(0.1, 0.5, 30), "milestones are the steps at which multi_step drops, .* got 30"),
        (lambda: multi_step(0.1, -1, (3,)), r"multi_step\(factor=-1\): .* at least 0; got -1"),
        (lambda: multi_step(0.1, 0.5, (3, -1)), r"multi_step\(milestone1=-1\): .* at least 0; got -1"),
        (lambda: joined(0.1, constant(0.2), lengths=(3,)), r"joined takes schedules such as .*, got 0.1"),
        (lambda: joined(constant(0.1), constant(0.2), lengths=()), "got 2 schedules and 0 lengths"),
        (lambda: joined(lengths=()), "the length of each but the last one, got 0 schedules and 0 lengths"),
        (lambda: joined(constant(0.1), constant(0.2), lengths=(-1,)), r"joined\(length0=-1\): .* at least 0; got -1"),
        (lambda: scaled(0.1, 2.0), "scaled takes schedules such as"),
    ],
)  # fmt: skip
def test_a_wrong_call_teaches(call, said):
    with pytest.raises(BadValue, match=said):
        call()


def test_an_unknown_kind_names_its_neighbor():
    with pytest.raises(NotFound, match="no schedule is called 'cosin'; did you mean 'cosine'"):
        specs.Schedule("cosin").at(0)


def test_a_new_kind_is_one_function():
    before = dict(registry._behaviors)
    try:

        @schedules.schedule(rate=schedules.VALUE)
        def square_root(step, rate):
            return rate / (step + 1).sqrt()

        assert square_root(2.0).at(3) == 1.0
        assert repr(square_root(rate=2.0)) == "square_root(rate=2)"
    finally:
        registry._behaviors.clear()
        registry._behaviors.update(before)
