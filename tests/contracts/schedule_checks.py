"""The contract of a schedule, as functions of its kind; a check that a kind breaks raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

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

LAST = 100


def behavior(kind: str) -> Any:
    return specs.behavior(Schedule(kind))


def samples(kind: str, count: int = 8) -> list[Schedule]:
    return [behavior(kind).sample(Draw(seed)) for seed in range(count)]


def check_twin(kind: str, twin: Callable[[Schedule, int], float] = follow) -> None:
    """It follows its twin, a Python function of one step, at every step, to 1e-13 of its largest value."""
    for schedule in samples(kind):
        expected = [twin(schedule, step) for step in range(LAST)]
        near = max(1e-15, 1e-13 * max(map(abs, expected)))
        assert [schedule.at(step) for step in range(LAST)] == pytest.approx(expected, rel=1e-13, abs=near)


def check_vectorized(kind: str) -> None:
    """A step has the same digits alone and in a tensor of any shape; an int gives a float."""
    for schedule in samples(kind):
        alone = torch.tensor([schedule.at(step) for step in range(LAST)], dtype=torch.float64)
        assert all(type(schedule.at(step)) is float for step in (0, 7))
        for steps in (torch.arange(LAST), torch.arange(LAST, dtype=torch.int32), torch.arange(LAST).double()):
            found = schedule.at(steps)
            assert found.dtype == torch.float64
            assert torch.equal(found, alone), f"{kind}: a step differs alone and in a row"
        for start, stop in ((0, 1), (3, 6), (7, 24), (50, 99)):
            assert torch.equal(schedule.at(torch.arange(start, stop)), alone[start:stop])
        assert torch.equal(schedule.at(torch.arange(LAST).reshape(4, 5, 5)), alone.reshape(4, 5, 5))
        assert torch.equal(schedule.at(torch.tensor(7)), alone[7])
        assert schedule.at(torch.zeros(0, dtype=torch.int64)).shape == (0,)


def check_numbers_are_data(kind: str) -> None:
    """With its numbers as tensors it lifts by vmap and is traced, to the same digits."""
    members, steps = samples(kind, 5), torch.arange(30)
    stacked = stacked_numbers(members)

    def at(numbers: Any, steps: Any) -> Any:
        return members[0].replace(**numbers).at(steps)

    lifted = vmap(at, in_dims=(0, None))
    expected = torch.stack([m.at(steps) for m in members])
    assert torch.equal(lifted(stacked, steps), expected), f"{kind}: a fleet's values differ"
    traced = make_fx(lifted)({k: v + 0.5 for k, v in stacked.items()}, steps + 3)
    assert torch.equal(traced(stacked, steps), expected), f"{kind}: traced and eager differ"
    one = members[0].replace(**{k: v[0] for k, v in stacked.items()}).at(7)
    assert isinstance(one, torch.Tensor)
    assert float(one) == members[0].at(7)


def check_joining(kind: str) -> None:
    """Joining and nesting change nothing: it sees its own steps from 0, none of them unseen."""
    steps = torch.arange(LAST)
    first, second = schedules.constant(2.0), schedules.inverse_time(1.0)
    for whole in samples(kind):
        assert torch.equal(schedules.joined(whole, lengths=()).at(steps), whole.at(steps))
        flat = schedules.joined(first, whole, second, lengths=(5, 20))
        left = schedules.joined(schedules.joined(first, whole, lengths=(5,)), second, lengths=(25,))
        right = schedules.joined(first, schedules.joined(whole, second, lengths=(20,)), lengths=(5,))
        for nested in (left, right):
            assert torch.equal(nested.at(steps), flat.at(steps)), f"{kind}: nesting changes values"
        assert torch.equal(flat.at(torch.arange(5, 25)), whole.at(torch.arange(20)))
        assert flat.at(25) == second.at(0)
        assert flat.at(4) == first.at(4)


def check_plain(kind: str) -> None:
    """It survives a trip through JSON, and prints its kind."""
    for draw in (Draw(1), lambda domain: specs.axis(Draw(2)(domain), Draw(3)(domain), log=False)):
        schedule = behavior(kind).sample(draw)
        assert specs.rebuild(json.loads(json.dumps(specs.plain(schedule)))) == schedule
        assert repr(schedule).startswith(f"{kind}(")


def check_domains(kind: str) -> None:
    """A number outside of its domain is refused with its name, its value and what it means."""
    own, schedule = behavior(kind), samples(kind, 1)[0]
    for name, domain in own.domains.items():
        for bad in (*outside(domain), float("inf"), schedules.constant(1.0)):
            with pytest.raises(BadValue) as refused:
                own.make(*schedule.children, **{**schedule.numbers, name: bad})
            value = f"{bad:g}" if isinstance(bad, float) else repr(bad)
            assert str(refused.value).startswith(f"{kind}({name}={value})")
            assert domain.meaning in str(refused.value)


def check_axis(kind: str) -> None:
    """With an axis in the place of a number it has no value at a step, and says why."""
    schedule = behavior(kind).sample(lambda domain: specs.axis(Draw(2)(domain), Draw(3)(domain), log=False))
    with pytest.raises(BadValue, match="has a value for each run of a fleet, axis"):
        schedule.at(0)


def check_words(kind: str) -> None:
    """Its docstring has an equation, its arguments, an example that runs, and the source."""
    check_document(behavior(kind).make, behavior(kind).domains)


CHECKS: dict[str, Callable[[str], None]] = {
    "twin": check_twin,
    "vectorized": check_vectorized,
    "numbers_are_data": check_numbers_are_data,
    "joining": check_joining,
    "plain": check_plain,
    "domains": check_domains,
    "axis": check_axis,
    "words": check_words,
}
