"""What the batteries draw: numbers from domains, trees of tensors, and fleets of rules of one kind."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from fallline import rules, schedules, specs
from fallline.errors import BadRule
from fallline.fleet.programs import Program
from fallline.rules.base import Oracle, behavior
from fallline.specs import Domain, Rule, Schedule
from fallline.tree import total as tree_total
from fallline.types import State, Tree

SHAPES = {"weight": (3, 4), "bias": (4,), "scale": (), "empty": (0,), "kernel": (2, 1, 3)}


class Draw:
    """Numbers from the inside of a domain."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, domain: Domain) -> float:
        if "steps" in domain.meaning:
            return float(math.ceil(domain.low) + self.random.integers(1, 30))
        if math.isinf(domain.low):
            return float(self.random.normal())
        if math.isinf(domain.high):
            return float(domain.low + 10 ** self.random.uniform(-3, 0))
        return float(domain.low + (domain.high - domain.low) * self.random.uniform(0.05, 0.95))


class DrawSchedules(Draw):
    """Schedules that stay inside a domain, as a cosine does between two of its numbers."""

    def __call__(self, domain: Domain) -> Any:
        start, end = super().__call__(domain), super().__call__(domain)
        return schedules.joined(
            schedules.constant(start), schedules.cosine(start, steps=5, end=end), lengths=(2,)
        )


def lowest(domain: Domain) -> float:
    """The number at the lower end of a domain, where it belongs to it."""
    return Draw(0)(domain) if domain.open_low or math.isinf(domain.low) else domain.low


def outside(domain: Domain) -> list[Any]:
    """What a domain must refuse."""
    found: list[Any] = [math.nan, "0.1", None, True]
    if math.isfinite(domain.low):
        found.append(domain.low if domain.open_low else domain.low - 0.5)
    if math.isfinite(domain.high):
        found.append(domain.high if domain.open_high else domain.high + 0.5)
    return found


def sample(kind: str, seed: int = 0) -> Rule:
    """One rule of a kind."""
    return behavior(Rule(kind)).sample(Draw(seed))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tree(seed: int, dtype: torch.dtype = torch.float64, runs: int | None = None) -> Tree:
    """A tree of normal numbers with parameters of several shapes, a 0-d one and an empty one among them."""
    random, lead = generator(seed), () if runs is None else (runs,)
    return {
        name: torch.randn((*lead, *shape), generator=random, dtype=torch.float64).to(dtype)
        for name, shape in SHAPES.items()
    }


def row(stacked: Any, i: int) -> Any:
    """Run ``i`` of stacked trees or states."""
    return torch.utils._pytree.tree_map(lambda t: t[i], stacked)


def rows(stacked: Any, chosen: list[int]) -> Any:
    """Some of the runs, in this order."""
    return torch.utils._pytree.tree_map(lambda t: t[torch.tensor(chosen)], stacked)


def stacked_numbers(members: list[Any]) -> dict[str, Tensor]:
    """The numbers of values of one structure by path, [runs] in float64: what a fleet is given."""
    tables = [dict(specs.flatten(rule)) for rule in members]
    return {
        path: torch.tensor([float(table[path]) for table in tables], dtype=torch.float64)
        for path in tables[0]
    }


def oracle_of(params: Tree, gradient: Tree) -> Oracle:
    """What a rule may ask for: a bowl with this gradient at these parameters, a Fisher matrix and factors made of it."""

    def grad_at(there: Tree) -> tuple[Tree, Tensor]:
        away = {name: there[name] - p for name, p in params.items()}
        rise = {name: gradient[name] * d + 0.25 * d * d for name, d in away.items()}
        return {name: gradient[name] + 0.5 * d for name, d in away.items()}, 3 + tree_total(rise)

    def fisher_vp(kind: str) -> Any:
        def product(v: Tree) -> Tree:
            along = 0.1 * tree_total({name: gradient[name] * x for name, x in v.items()})
            return {name: 0.7 * x + gradient[name] * along for name, x in v.items()}

        return product

    def kron_factors(kind: str) -> Any:
        found = {}
        for name, g in gradient.items():
            if g.ndim == 2:
                one = torch.ones(g.shape[1] + 1, g.shape[1] + 1, dtype=g.dtype, device=g.device)
                inputs = torch.nn.functional.pad(g.mT @ g, (0, 1, 0, 1)) + torch.diag(one.diag())
                found[name] = inputs, g @ g.mT + torch.diag(torch.ones_like(g[:, 0]))
        return found

    return Oracle(grad_at(params)[1], grad_at, fisher_vp, kron_factors)


def twin_oracles(given: list[Tree]) -> list[Any]:
    """The same for a slow twin, at each step a function of its weights; everything in arrays, by place."""

    def at_step(gradient: Tree) -> Any:
        def trees(arrays: Any) -> Tree:
            return dict(zip(gradient, (torch.from_numpy(np.asarray(a)) for a in arrays), strict=True))

        def asked(weights: Any) -> Any:
            oracle, places = oracle_of(trees(weights), gradient), list(gradient)
            return SimpleNamespace(
                fisher_vp=lambda kind: (
                    lambda v: [t.numpy() for t in oracle.fisher_vp(kind)(trees(v)).values()]
                ),
                kron_factors=lambda kind: {
                    places.index(name): [f.numpy() for f in pair]
                    for name, pair in oracle.kron_factors(kind).items()
                },
            )

        return asked

    return [at_step(gradient) for gradient in given]


def lifted_update(rule: Rule) -> Any:
    """The update of a fleet: parameters, gradients, state and numbers in; step, state, information out."""

    def one(params: Tree, gradient: Tree, state: State, h: Tree) -> Any:
        return rules.update(rule, gradient, state, params, h, oracle_of(params, gradient))

    lifted = vmap(one)
    lifted.__wrapped__ = one
    return lifted


_PROGRAMS: dict[str, Program] = {}


def as_in_a_fleet(rule: Rule) -> Any:
    """The lifted update; of a rule that sees matrices the program of a fleet, as libraries round them by their place."""
    lifted = lifted_update(rule)
    if not rules.shaped(rule):
        return lifted
    program = _PROGRAMS.setdefault(specs.structure(rule), Program(lifted.__wrapped__, (0, 0, 0, 0), "traced"))

    def run(*stacked: Any) -> Any:
        if len(next(iter(stacked[0].values()))) > 1:
            return program(*stacked)
        return rows(program(*rows(stacked, [0, 0])), [0])  # as a block does with a single run

    return run


def fleet_path(members: list[Rule], params: Tree, gradients: list[Tree]) -> list[Any]:
    """Directions, states and information of a fleet, step by step; parameters move along."""
    h, rule = stacked_numbers(members), members[0]
    take = as_in_a_fleet(rule)
    state = vmap(lambda p, n: rules.init(rule, p, n))(params, h)
    path = []
    for gradient in gradients:
        direction, state, info = take(params, gradient, state, h)
        params = {name: p + direction[name] for name, p in params.items()}
        path.append((direction, state, info))
    return path


def solo_path(rule: Rule, params: Tree, gradients: list[Tree]) -> list[Any]:
    """The same for one run, with its numbers as floats, by step where they are schedules."""
    numbers, path = dict(specs.flatten(rule)), []
    state = rules.init(rule, params, at(numbers, 0))
    for t, gradient in enumerate(gradients):
        oracle = oracle_of(params, gradient)
        direction, state, info = rules.update(rule, gradient, state, params, at(numbers, t), oracle)
        params = {name: p + direction[name] for name, p in params.items()}
        path.append((direction, state, info))
    return path


def at(numbers: dict[str, Any], step: int) -> dict[str, Any]:
    """Numbers at a step."""
    return {path: n.at(step) if isinstance(n, Schedule) else n for path, n in numbers.items()}


def trainer(rule: Rule) -> Rule:
    """A rule that trains, with this rule in it."""
    try:
        stage = rules.base.passes(rule, "gradient")
    except BadRule:
        return rules.chain(rules.descend(0.05), rule)
    return rules.chain(rule, rules.descend(0.05)) if stage == "gradient" else rule


def equal(a: Any, b: Any) -> bool:
    """Whether two trees of tensors are equal bit for bit, NaN equal to NaN."""
    left, right = torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b)
    return len(left) == len(right) and all(
        x.dtype == y.dtype and x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all())
        for x, y in zip(left, right, strict=True)
    )
