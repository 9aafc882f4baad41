"""A rule or a step that breaks the law fails the battery: each mistake below is found by the check that is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fallline import registry
from fallline.fleet import block, steady, workshop
from fallline.rules import per_tensor
from fallline.rules.base import RATE
from fallline.specs import Rule, Run
from fallline.tasks import Task
from fleet.cases import check_near, classification, loop, train, weights

from .fleet_checks import MODELS, check_executors, check_plain_loop, check_sizes, check_twins


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Take the broken kinds out of the registry again."""
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


def whole(batched: Tensor) -> Tensor:
    """All runs of the block, seen from inside of one: what a rule must never do."""
    return torch._C._functorch.get_unwrapped(batched)


def descending(step: Any) -> Rule:
    """Gradient descent along ``step(g)``."""

    @per_tensor(gives="step", lr=RATE)
    def broken(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return step(g) * -h.lr, {}

    return broken(0.05)


def runs_of(rule: Rule, count: int = 6) -> list[Run]:
    return [Run(rule, seed=seed) for seed in range(count)]


def test_the_unbroken_form_keeps_the_law():
    rule = descending(lambda g: g)
    check_sizes(classification(), runs_of(rule), (1, 3))
    make, loss = MODELS["classification"]
    check_plain_loop(classification(dtype=torch.float64), Run(rule), runs_of(rule), make, loss)


def test_runs_that_share_a_norm_differ_with_their_neighbors():
    rule = descending(lambda g: g / whole(g).norm())
    with pytest.raises(AssertionError, match=r"in a fleet of 3: run 0, .* differs in"):
        check_sizes(classification(), runs_of(rule), (3,))


def test_a_run_that_reads_a_neighbor_differs_in_another_order():
    rule = descending(lambda g: g + 1e-12 * whole(g)[0])
    with pytest.raises(AssertionError, match="differs in"):
        check_sizes(classification(dtype=torch.float64), runs_of(rule), (6,))


def test_a_rule_that_draws_from_the_global_generator_is_not_the_same_twice():
    generator = np.random.default_rng(0)
    rule = descending(lambda g: g * (1 + 1e-6 * generator.normal()))
    with pytest.raises(AssertionError, match="differs in"):
        check_sizes(classification(), runs_of(rule), (6,))
    with pytest.raises(RuntimeError, match="called random operation while in randomness error mode"):
        train(classification(), runs_of(descending(lambda g: g + torch.randn_like(g))))


def test_kernels_that_round_by_a_runs_place_are_found(monkeypatch: pytest.MonkeyPatch):
    def by_place(x: Tensor) -> Tensor:
        places = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)
        return 1 - 2 / (torch.exp(2 * x) + 1) + 1e-15 * places

    task = classification(dtype=torch.float64)
    check_twins(task, Run(descending(lambda g: g)))
    monkeypatch.setattr(steady, "table", lambda: {torch.ops.aten.tanh.default: by_place})
    with pytest.raises(AssertionError, match=r"in another place: run .* differs in"):
        check_twins(task, Run(descending(lambda g: g)))


def test_a_step_of_another_size_is_not_the_plain_loop(monkeypatch: pytest.MonkeyPatch):
    rule, (make, loss) = descending(lambda g: g), MODELS["classification"]
    task = classification(dtype=torch.float64)
    step = workshop.one_step

    def longer(task: Task, rule: Rule) -> Any:
        one = step(task, rule)

        def run(carry: Any, given: Any, columns: Any) -> Any:
            after, told = one(carry, given, columns)
            moved = {k: p + 1e-9 * (p - carry.params[k]) for k, p in after.params.items()}
            return after._replace(params=moved), told

        return run

    monkeypatch.setattr(workshop, "one_step", longer)
    with pytest.raises(AssertionError, match="apart"):
        check_plain_loop(task, Run(rule), runs_of(rule), make, loss)


def test_an_executor_that_trains_on_other_examples_is_found(monkeypatch: pytest.MonkeyPatch):
    rule, task = descending(lambda g: g), classification(dtype=torch.float64)
    between = block.Order.between

    def shifted(self: Any, start: int, stop: int) -> Tensor:
        found = between(self, start, stop)
        return found.roll(1, 0) if len(self.seeds) == 1 else found

    monkeypatch.setattr(block.Order, "between", shifted)
    with pytest.raises(AssertionError):
        check_executors(task, Run(rule), runs_of(rule))


def test_a_loop_with_another_seed_is_found():
    rule, (make, loss) = descending(lambda g: g), MODELS["classification"]
    task = classification(dtype=torch.float64)
    record = train(task, [Run(rule, seed=0)])[0]
    with pytest.raises(AssertionError, match="apart"):
        check_near(record.weights, weights(loop(task, make, loss, Run(rule, seed=1), 12, 7)))
