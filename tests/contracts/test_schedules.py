"""Every schedule keeps the contract."""

import json

import pytest
import torch
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from fallline import schedules, specs
from fallline.errors import BadValue
from fallline.specs import Schedule

from .documents import check_document
from .samples import Draw, outside, stacked_numbers
from .schedule_twins import follow

KINDS = specs.kinds(Schedule)
SEEDS = range(8)
LAST = 100

kinds = pytest.mark.parametrize("kind", KINDS)
seeds = pytest.mark.parametrize("seed", SEEDS)


def behavior(kind):
    return specs.behavior(Schedule(kind))


def sample(kind, seed=0):
    return behavior(kind).sample(Draw(seed))


@kinds
@seeds
def test_it_follows_its_twin_at_every_step(kind, seed):
    schedule = sample(kind, seed)
    for step in range(LAST):
        assert schedule.at(step) == pytest.approx(follow(schedule, step), rel=1e-13, abs=1e-15)


@kinds
@seeds
def test_a_step_has_the_same_digits_alone_and_in_a_tensor(kind, seed):
    schedule = sample(kind, seed)
    alone = torch.tensor([schedule.at(step) for step in range(LAST)], dtype=torch.float64)
    assert all(type(schedule.at(step)) is float for step in (0, 7))
    for steps in (torch.arange(LAST), torch.arange(LAST, dtype=torch.int32), torch.arange(LAST).double()):
        assert torch.equal(schedule.at(steps), alone)
    for start, stop in ((0, 1), (3, 6), (7, 24), (50, 99)):
        assert torch.equal(schedule.at(torch.arange(start, stop)), alone[start:stop])
    assert torch.equal(schedule.at(torch.arange(LAST).reshape(4, 5, 5)), alone.reshape(4, 5, 5))
    assert torch.equal(schedule.at(torch.tensor(7)), alone[7])
    assert schedule.at(torch.zeros(0, dtype=torch.int64)).shape == (0,)


@kinds
def test_its_numbers_are_data(kind):
    members = [sample(kind, seed) for seed in range(5)]
    stacked = stacked_numbers(members)
    steps = torch.arange(30)

    def at(numbers, steps):
        return members[0].replace(**numbers).at(steps)

    lifted = vmap(at, in_dims=(0, None))
    expected = torch.stack([m.at(steps) for m in members])
    assert torch.equal(lifted(stacked, steps), expected)
    traced = make_fx(lifted)({k: v + 0.5 for k, v in stacked.items()}, steps + 3)
    assert torch.equal(traced(stacked, steps), expected)
    one = members[0].replace(**{k: v[0] for k, v in stacked.items()}).at(7)
    assert isinstance(one, torch.Tensor)
    assert float(one) == members[0].at(7)


@kinds
@seeds
def test_joining_changes_nothing(kind, seed):
    whole, steps = sample(kind, seed), torch.arange(LAST)
    first, second = schedules.constant(2.0), schedules.inverse_time(1.0)
    alone = schedules.joined(whole, lengths=())
    assert torch.equal(alone.at(steps), whole.at(steps))
    flat = schedules.joined(first, whole, second, lengths=(5, 20))
    left = schedules.joined(schedules.joined(first, whole, lengths=(5,)), second, lengths=(25,))
    right = schedules.joined(first, schedules.joined(whole, second, lengths=(20,)), lengths=(5,))
    for nested in (left, right):
        assert torch.equal(nested.at(steps), flat.at(steps))
    assert torch.equal(flat.at(torch.arange(5, 25)), whole.at(torch.arange(20)))
    assert flat.at(25) == second.at(0)
    assert flat.at(4) == first.at(4)


@kinds
def test_it_survives_json(kind):
    for draw in (Draw(1), lambda domain: specs.axis(Draw(2)(domain), Draw(3)(domain), log=False)):
        schedule = behavior(kind).sample(draw)
        assert specs.rebuild(json.loads(json.dumps(specs.plain(schedule)))) == schedule
        assert repr(schedule).startswith(f"{kind}(")


@kinds
def test_numbers_outside_of_their_domains_are_refused(kind):
    own, schedule = behavior(kind), sample(kind)
    for name, domain in own.domains.items():
        for bad in (*outside(domain), float("inf"), schedules.constant(1.0)):
            with pytest.raises(BadValue) as refused:
                own.make(*schedule.children, **{**schedule.numbers, name: bad})
            said = str(refused.value)
            value = f"{bad:g}" if isinstance(bad, float) else repr(bad)
            assert said.startswith(f"{kind}({name}={value})")
            assert domain.meaning in said


@kinds
def test_an_axis_has_no_value_at_a_step(kind):
    schedule = behavior(kind).sample(lambda domain: specs.axis(1.0, 2.0))
    with pytest.raises(BadValue, match="has a value for each run of a fleet, axis"):
        schedule.at(0)


@kinds
def test_its_docstring_is_complete(kind):
    check_document(behavior(kind).make, behavior(kind).domains)
