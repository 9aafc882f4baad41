"""What the battery of schedules does not say: exact values, steps, wrong calls, and torch's schedulers."""

import math

import pytest
import torch

from fallline import registry, schedules, specs
from fallline.errors import BadValue, NotFound
from fallline.schedules import constant, cosine, inverse_time, joined, scaled, step, values, warm_up


def of_torch(make, steps):
    """The rates that a torch scheduler gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_inverse_time_counts_from_one():
    assert [inverse_time(0.3).at(k) for k in range(3)] == [0.3, 0.15, 0.3 / 3]
    assert inverse_time(0.3, offset=10).at(0) == 0.03


def test_step_equals_torch():
    rates = of_torch(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=7, gamma=0.3), 60)
    assert step(0.5, factor=0.3, every=7).at(torch.arange(60)).tolist() == pytest.approx(rates, rel=1e-14)


def test_step_goes_on_falling():
    assert step(1.0, factor=0.9999, every=1).at(100_000) == pytest.approx(0.9999**100_000, rel=1e-9)
    assert step(1.0, factor=0.0, every=10).at(torch.tensor([9, 10])).tolist() == [1.0, 0.0]


def test_cosine_equals_torch_until_its_end_and_stays_there():
    rates = of_torch(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=50, eta_min=0.1), 51)
    schedule = cosine(0.5, 50, end=0.1)
    assert schedule.at(torch.arange(51)).tolist() == pytest.approx(rates, rel=1e-12)
    assert schedule.at(0) == 0.5
    assert schedule.at(50) == schedule.at(51) == schedule.at(10**9) == 0.1


def test_warm_up_meets_its_ends_exactly():
    schedule = warm_up(7, to=0.3, from_=0.1)
    assert schedule.at(0) == 0.1
    assert schedule.at(7) == schedule.at(8) == 0.3
    rates = of_torch(
        lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=0.2, end_factor=1.0, total_iters=10), 15
    )
    assert warm_up(10, to=0.5, from_=0.1).at(torch.arange(15)).tolist() == pytest.approx(rates, rel=1e-12)


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
