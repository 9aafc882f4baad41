"""What a rule declares, held to it: invariances, limits, gradients at the edge of numbers, convergence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fallline import rules
from fallline.rules.base import DECAY, behavior
from fallline.rules.parse import parse
from fallline.specs import Rule

from .samples import Draw, generator, solo_path, tree
from .toys import SOUGHT, converge

Act = Callable[[Tensor], Tensor]
"""What is done to a tensor."""


def _same(t: Tensor) -> Tensor:
    return t


def _rotation(shape: torch.Size, random: torch.Generator) -> Act:
    n = shape.numel()
    q = torch.linalg.qr(torch.randn(n, n, generator=random, dtype=torch.float64)).Q
    return lambda t: (q @ t.flatten()).reshape(shape)


def _turning(shape: torch.Size, random: torch.Generator) -> Act:
    if len(shape) < 2 or not shape.numel():
        return _same
    q = torch.linalg.qr(torch.randn(shape[0], shape[0], generator=random, dtype=torch.float64)).Q
    return lambda t: (q @ t.flatten(1)).reshape(shape)


def _sign(shape: torch.Size, random: torch.Generator) -> Act:
    flips = torch.randint(0, 2, shape, generator=random).double() * 2 - 1
    return lambda t: t * flips


def _permutation(shape: torch.Size, random: torch.Generator) -> Act:
    order = torch.randperm(shape.numel(), generator=random)
    return lambda t: t.flatten()[order].reshape(shape)


def _acts(name: str, shape: torch.Size, factor: float, random: torch.Generator) -> tuple[Act, Act, Act]:
    """What an invariance does to weights, and to gradients, and then to steps."""
    if name in ("scale", "proportion"):
        return _same, lambda t: factor * t, (lambda t: factor * t) if name == "proportion" else _same
    acts = {"rotation": _rotation, "turning": _turning, "sign": _sign, "permutation": _permutation}
    act = acts[name](shape, random)
    return act, act, act


def _deviation(rule: Rule, name: str, seed: int, factor: float) -> float:
    """How far a rule's steps are from an invariance, relative to the largest of them."""
    params, gradients = tree(seed), [tree(seed + 1 + t) for t in range(5)]
    acts = {key: _acts(name, p.shape, factor, generator(seed)) for key, p in params.items()}

    def done(i: int, values: Any) -> Any:
        return {key: acts[key][i](t) for key, t in values.items()}

    moved = solo_path(rule, done(0, params), [done(1, g) for g in gradients])
    worst = 0.0
    for (there, _, _), (here, _, _) in zip(moved, solo_path(rule, params, gradients), strict=True):
        expected = done(2, here)
        largest = max(float(t.abs().max()) for t in expected.values() if t.numel())
        gap = max(float((there[key] - t).abs().max()) for key, t in expected.items() if t.numel())
        worst = max(worst, gap / max(largest, 1e-30) if gap else 0.0)
    return worst


def check_invariances(kind: str) -> None:
    """Each declared invariance holds under its numbers for all others, and not without them."""
    own = behavior(Rule(kind))
    if not own.named:
        return
    if "kron_factors" in rules.needs(own.make()):
        return  # its factors are the oracle's, which does not know what is done to the gradients
    assert own.invariances, f"{kind} declares no invariances={{…}}: say which hold, and under which numbers"
    for name, under in own.invariances.items():
        _holds(kind, name, under)
        for number in under:
            others = {key: value for key, value in under.items() if key != number}
            without = own.sample(Draw(1)).replace(**others)
            assert _deviation(without, name, 1, 3.0) > 1e-8, f"{kind} has {name} without {number}, too"


def _holds(kind: str, name: str, under: Any) -> None:
    @settings(max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(st.integers(0, 10**6), st.floats(0.01, 100.0))
    def holds(seed: int, factor: float) -> None:
        found = _deviation(behavior(Rule(kind)).sample(Draw(seed)).replace(**under), name, seed, factor)
        assert found < 1e-8, f"{kind} declares {name} under {dict(under)}, and misses it by {found:.1e}"

    holds()


def check_limits(kind: str) -> None:
    """At the declared edges of its domains it is the rule that it says, in what is trained and what is evaluated."""
    for edge, same in behavior(Rule(kind)).limits.items():
        rule, other = parse(edge), parse(same)
        assert rule.kind == kind, f"{kind} declares a limit of {rule.kind}"
        start, gradients = tree(1), [tree(2 + t) for t in range(8)]
        seen = zip(_evaluated(rule, start, gradients), _evaluated(other, start, gradients), strict=True)
        for t, pair in enumerate(seen):
            for a, b in zip(*map(tree_leaves, pair), strict=True):
                torch.testing.assert_close(
                    a, b, rtol=1e-12 * (t + 1), atol=1e-12 * (t + 1), msg=f"{edge} is not {same}"
                )


def _evaluated(rule: Rule, params: Any, gradients: list[Any]) -> list[Any]:
    found = []
    for direction, state, _ in solo_path(rule, params, gradients):
        params = {name: p + direction[name] for name, p in params.items()}
        found.append((params, rules.view(rule, params, state)))
    return found


def check_rests(kind: str) -> None:
    """Gradients that have always been zero move nothing, where there is no decay."""
    own = behavior(Rule(kind))
    if not own.named:
        return
    still = {name: 0.0 for name, domain in own.domains.items() if domain is DECAY}
    zero = {name: torch.zeros_like(t) for name, t in tree(1).items()}
    for direction, _, _ in solo_path(own.sample(Draw(2)).replace(**still), tree(1), [zero] * 3):
        assert all((d == 0).all() for d in direction.values()), f"{kind} moves though all gradients are zero"


def check_huge(kind: str) -> None:
    """A gradient of 1e30 in float32, and usual ones after it, do what the rule declares."""
    own = behavior(Rule(kind))
    if not own.named:
        return
    start = tree(1, torch.float32)
    given = [{name: torch.full_like(t, 1e30) for name, t in start.items()}]
    given += [tree(2 + t, torch.float32) for t in range(8)]
    first, *later = (
        torch.cat([d.flatten() for d in step.values()]) for step, _, _ in solo_path(own.make(), start, given)
    )
    if not all(step.isfinite().all() for step in (first, *later)):
        found = "diverges"
    elif first.abs().max() > 1e20:
        found = "proportion"
    else:
        found = "bounded" if any(step.any() for step in later) else "stalls"
    assert own.huge == found, f"{kind} declares huge={own.huge!r} for gradients of 1e30, and it is {found!r}"


def check_converges(kind: str) -> None:
    """At the best rate of its range it converges on each of four problems in its budget of steps."""
    own = behavior(Rule(kind))
    if not own.named or rules.needs(own.make()):
        return
    left = converge(own.make())
    missed = {name: left[name] for name, sought in SOUGHT.items() if not left[name] <= sought}
    assert not missed, f"{kind} has not converged in {own.budget} steps: {missed} of the excess loss is left"


DECLARED: dict[str, Callable[[str], None]] = {
    "invariances": check_invariances,
    "limits": check_limits,
    "rests": check_rests,
    "huge": check_huge,
    "converges": check_converges,
}
