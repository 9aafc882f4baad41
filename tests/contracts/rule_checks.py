"""The contract of a rule, as functions of its kind; a check that a kind breaks raises."""

from __future__ import annotations

import inspect
import io
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves, tree_map

from fallline import optim, rules, specs
from fallline.errors import BadValue, NotFound
from fallline.native.compiling import compiler
from fallline.rules import reference
from fallline.rules.base import behavior
from fallline.specs import Rule

from .declared_checks import DECLARED
from .documents import check_document
from .samples import (
    Draw,
    DrawSchedules,
    at,
    equal,
    fleet_path,
    lifted_update,
    lowest,
    oracle_of,
    outside,
    row,
    rows,
    sample,
    solo_path,
    stacked_numbers,
    trainer,
    tree,
    twin_oracles,
)

STEPS = 6
FLEET = 16
named = [kind for kind in specs.kinds(Rule) if behavior(Rule(kind)).named]


def gradients(
    seed: int, dtype: torch.dtype = torch.float64, runs: int | None = None, steps: int = STEPS
) -> Any:
    return [tree(seed + t, dtype, runs) for t in range(steps)]


# --- its reference ----------------------------------------------------------------------------------------


def check_reference(kind: str, twin: Callable[..., Any] | None = None) -> None:
    """A named rule follows its slow twin to 1e-12 a step, with fixed numbers and with schedules."""
    own = behavior(Rule(kind))
    for draw in (Draw(1), DrawSchedules(2)):
        rule = own.sample(draw)
        if own.named:
            _follows(rule, twin)
        elif rule.children and rule.numbers:
            inner = behavior(Rule(named[0])).sample(draw)
            _follows(own.make(inner, **rule.numbers), twin)
        else:
            _changes_alike(rule, twin or reference.twin(kind))


def has_twin(kind: str) -> bool:
    """Whether a kind must follow a twin: named rules must, parts of rules may."""
    try:
        reference.twin(kind)
    except NotFound:
        return behavior(Rule(kind)).named
    return True


def check_clipped_reference(kind: str) -> None:
    """With clips in front it follows the twins, composed in the same way."""
    if not behavior(Rule(kind)).named:
        return
    for draw in (Draw(3), DrawSchedules(4)):
        rule = behavior(Rule(kind)).sample(draw)
        for clips in (
            [rules.clip_norm(0.7)],
            [rules.clip_value(0.3)],
            [rules.clip_value(0.8), rules.clip_norm(1.1)],
        ):
            _follows(rules.chain(*clips, rule))


def _follows(rule: Rule, twin: Callable[..., Any] | None = None) -> None:
    start, given = tree(10), gradients(20, steps=12)
    arrays = [[g.numpy() for g in gradient.values()] for gradient in given]
    weights = [w.numpy() for w in start.values()]
    if twin is None:
        expected = reference.follow(rule, weights, arrays, twin_oracles(given))
    else:
        expected = twin(weights, arrays, **{k: getattr(n, "at", n) for k, n in rule.numbers.items()})
    params, path = start, solo_path(rule, start, given)
    for t, ((direction, state, _), twins) in enumerate(zip(path, expected, strict=True)):
        params = {name: p + direction[name] for name, p in params.items()}
        seen = rules.view(rule, params, state)
        _near([s.numpy() for s in seen.values()], twins, steps=t + 1)


def _changes_alike(rule: Rule, twin: Callable[..., Any]) -> None:
    given, path, params = gradients(30), [tree(10)], tree(10)
    arrays = [[g.numpy() for g in gradient.values()] for gradient in given]
    changes = solo_path(rule, params, given)
    for direction, _, _ in changes:
        path.append({name: p + direction[name] for name, p in path[-1].items()})
    more: dict[str, Any] = {k: getattr(n, "at", n) for k, n in rule.numbers.items()}
    if "weights" in inspect.signature(twin).parameters:  # it reads the parameters too
        more["weights"] = [[w.numpy() for w in weights.values()] for weights in path[:-1]]
    for (direction, _, _), changed in zip(changes, twin(arrays, **more), strict=True):
        _near([d.numpy() for d in direction.values()], changed, steps=1)


def _near(ours: list[Any], theirs: list[Any], steps: int) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12 * steps, atol=1e-12 * steps)


# --- the law: fleet == solo -------------------------------------------------------------------------------


def _members(kind: str) -> list[Rule]:
    return [sample(kind, seed) for seed in range(FLEET)]


def check_fleet(kind: str, dtype: torch.dtype) -> None:
    """A run's numbers are bit-equal in fleets of any size, in any order, beside any neighbors."""
    members, params, given = _members(kind), tree(40, dtype, FLEET), gradients(50, dtype, FLEET, steps=12)
    whole = fleet_path(members, params, given)
    order = np.random.default_rng(0).permutation(FLEET).tolist()
    for chosen in (order, *_parts(order, (5, 1, 2, 5, 1, 2)), [order[2], order[2]]):
        part = fleet_path(
            [members[i] for i in chosen], rows(params, chosen), [rows(g, chosen) for g in given]
        )
        for all_runs, some in zip(whole, part, strict=True):
            assert equal(rows(all_runs, chosen), some), f"{kind}: a run differs in a fleet of {len(chosen)}"


def _parts(order: list[int], sizes: tuple[int, ...]) -> list[list[int]]:
    """All runs, in fleets of these sizes."""
    ends = list(itertools.accumulate(sizes))
    assert ends[-1] == len(order)
    return [order[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def check_neighbors(kind: str, dtype: torch.dtype) -> None:
    """Runs that leave the finite numbers change nothing for the others."""
    members, params, given = _members(kind), tree(40, dtype, FLEET), gradients(50, dtype, FLEET)
    whole = fleet_path(members, params, given)
    for bad in (float("nan"), float("inf"), 1e30):
        spoilt = [
            tree_map(lambda g, bad=bad: torch.cat([torch.full_like(g[:3], bad), g[3:]]), g) for g in given
        ]
        for clean, beside in zip(whole, fleet_path(members, params, spoilt), strict=True):
            later = list(range(3, FLEET))
            assert equal(rows(clean, later), rows(beside, later)), (
                f"{kind}: a neighbor of {bad} changes a run"
            )


def check_solo(kind: str) -> None:
    """A run in a fleet, its numbers as tensors, is itself alone, its numbers as floats, to 1e-12 in float64."""
    members, params, given = _members(kind), tree(40, runs=FLEET), gradients(50, runs=FLEET)
    whole = fleet_path(members, params, given)
    for i in (0, 7, 15):
        alone = solo_path(members[i], row(params, i), [row(g, i) for g in given])
        for t, (fleet, solo) in enumerate(zip(whole, alone, strict=True)):
            for a, b in zip(tree_leaves(row(fleet, i)), tree_leaves(solo), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-12 * (t + 1), atol=1e-12 * (t + 1))


def check_traced(kind: str) -> None:
    """Traced to a list of tensor operations it is bit-equal, also for numbers that it was not traced with."""
    members, others = _members(kind)[:4], _members(kind)[4:8]
    update = lifted_update(members[0])
    traced = None
    for fleet, seed in ((members, 60), (others, 70)):
        params, gradient, h = tree(seed, runs=4), tree(seed + 1, runs=4), stacked_numbers(fleet)
        state = torch.func.vmap(lambda p, n: rules.init(members[0], p, n))(params, h)
        for _ in range(2):
            inputs = (params, gradient, state, h)
            traced = traced or make_fx(update)(*inputs)
            eager = update(*inputs)
            assert equal(eager, traced(*inputs)), f"{kind}: traced and eager differ"
            state = eager[1]


# --- purity and dtypes ------------------------------------------------------------------------------------


def check_untouched(kind: str) -> None:
    """Nothing that comes in is changed, nor is what was given out changed later."""
    rule, params = sample(kind), tree(80)
    h: dict[str, Any] = {path: torch.tensor(n, dtype=torch.float64) for path, n in specs.flatten(rule)}
    state, held = rules.init(rule, params, h), []
    held.append((tree_map(torch.clone, state), state))
    for t in range(3):
        inputs = (tree(81 + t), state, params, h)
        before = tree_map(torch.clone, inputs)
        names = [set(part) for part in (inputs[0], state.params, params, h)]
        direction, after, _ = rules.update(rule, *inputs, oracle_of(params, inputs[0]))
        assert equal(before, inputs), f"{kind} changes what it is given"
        assert names == [set(part) for part in (inputs[0], state.params, params, h)]
        assert list(direction) == list(inputs[0]) == list(after.params)
        for name, held_before in (*state.params.items(), ("the tree", state.tree)):
            kept = after.tree if name == "the tree" else after.params[name]
            assert set(kept) == set(held_before), f"{kind} does not carry its state on"
        held.append((tree_map(torch.clone, after), after))
        state = after
    assert all(equal(copy, given) for copy, given in held), f"{kind} changes what it gave before"


def check_dtypes(kind: str, dtype: torch.dtype) -> None:
    """Directions and state keep dtype, shape and device, whether the numbers are floats or tensors of float64."""
    rule, params = sample(kind), tree(90, dtype)
    floats: dict[str, Any] = dict(specs.flatten(rule))
    tensors: dict[str, Any] = {path: torch.tensor(n, dtype=torch.float64) for path, n in floats.items()}
    for h in (floats, tensors):
        state = rules.init(rule, params, h)
        gradient = tree(91, dtype)
        direction, after, _ = rules.update(rule, gradient, state, params, h, oracle_of(params, gradient))
        for old, new in zip(tree_leaves((params, state)), tree_leaves((direction, after)), strict=True):
            assert (old.dtype, old.shape, old.device) == (new.dtype, new.shape, new.device), kind
        assert all(torch.promote_types(t.dtype, dtype) == t.dtype for t in tree_leaves(after)), kind


def check_device(kind: str) -> None:
    """Directions and state stay on the device of the parameters; a device without data shows it without one."""
    rule = sample(kind)
    params, gradient = ({name: t.to("meta") for name, t in tree(seed).items()} for seed in (95, 96))
    for h in (at(dict(specs.flatten(rule)), 0), {path: t[0] for path, t in stacked_numbers([rule]).items()}):
        state = rules.init(rule, params, h)
        direction, after, _ = rules.update(rule, gradient, state, params, h, oracle_of(params, gradient))
        assert all(t.device.type == "meta" for t in tree_leaves((state, direction, after))), kind


# --- what it declares -------------------------------------------------------------------------------------


def check_elementwise(kind: str) -> None:
    """Where it says that it treats each entry alone, permuting the entries permutes its steps."""
    rule, params, given = sample(kind), tree(100), gradients(101)
    if not rules.elementwise(rule):
        return
    orders = {
        name: torch.randperm(p.numel(), generator=torch.Generator().manual_seed(1))
        for name, p in params.items()
    }

    def permuted(values: Any) -> Any:
        return {name: t.flatten()[orders[name]].reshape(t.shape) for name, t in values.items()}

    path = solo_path(rule, params, given)
    for (direction, _, _), (other, _, _) in zip(
        path, solo_path(rule, permuted(params), [permuted(g) for g in given]), strict=True
    ):
        assert equal(permuted(direction), other), f"{kind} says that it is elementwise, and is not"


def check_continuous(kind: str) -> None:
    """Unless it says that it is discontinuous, a gradient that crosses zero by 1e-12 moves its steps by little."""
    rule, params = sample(kind), tree(110)
    if rules.discontinuous(rule):
        return
    above = [{n: torch.full_like(g, 1e-12) for n, g in tree(0).items()}, tree(111)]
    below = [{n: torch.full_like(g, -1e-12) for n, g in tree(0).items()}, tree(111)]
    for (a, _, _), (b, _, _) in zip(
        solo_path(rule, params, above), solo_path(rule, params, below), strict=True
    ):
        for name, d in a.items():
            torch.testing.assert_close(
                d, b[name], rtol=1e-6, atol=1e-6, msg=f"{kind} jumps, and does not say so"
            )


def check_finite_at_zero(kind: str) -> None:
    """Gradients of zero, and ones whose squares underflow, give finite steps, with every number at its low end."""
    for draw in (lowest, Draw(5)):
        rule, params = behavior(Rule(kind)).sample(draw), tree(120, torch.float32)
        for size in (0.0, 1e-30):
            given = [{n: torch.full_like(p, size) for n, p in params.items()}] * 3
            for direction, _, _ in solo_path(rule, params, given):
                assert all(d.isfinite().all() for d in direction.values()), f"{kind}: not finite at {size}"


def check_nan_is_seen(kind: str) -> None:
    """A NaN in the gradient is a NaN in a step, and reaches no other entry of a rule that is elementwise."""
    rule, params, given = sample(kind), tree(130), gradients(131, steps=3)
    spoilt = [{n: g.clone() for n, g in gradient.items()} for gradient in given]
    spoilt[0]["weight"][1, 2] = float("nan")
    clean, path = solo_path(rule, params, given), solo_path(rule, params, spoilt)
    assert any(step["weight"][1, 2].isnan() for step, _, _ in path), f"{kind} hides a NaN"
    if rules.elementwise(rule):
        for (a, _, _), (b, _, _) in zip(clean, path, strict=True):
            b["weight"][1, 2] = a["weight"][1, 2]
            assert equal(a, b), f"{kind}: a NaN spreads, though the rule is elementwise"


# --- numbers, data, words ---------------------------------------------------------------------------------


def check_domains(kind: str) -> None:
    """A number outside of its domain is refused with its name, its value, what it means and what it may be."""
    own, rule = behavior(Rule(kind)), sample(kind)
    for name, domain in own.domains.items():
        assert name in rule.numbers
        for bad in outside(domain):
            with pytest.raises(BadValue) as refused:
                own.make(*rule.children, **{**rule.numbers, name: bad}, **rule.options)
            said = str(refused.value)
            value = f"{bad:g}" if isinstance(bad, float) else repr(bad)
            for part in (f"{kind}({name}={value})", domain.meaning, str(domain)):
                assert part in said, f"{part!r} is not said in {said!r}"


def check_search(kind: str) -> None:
    """What is to be tuned is a number that it has, over a range inside of the number's domain."""
    own = behavior(Rule(kind))
    assert own.search or not own.named, f"{kind} does not say what to tune"
    for name, (low, high) in own.search.items():
        assert 0 < low < high
        assert low in own.domains[name]
        assert high in own.domains[name]


def check_arguments(kind: str) -> None:
    """An argument that it does not take is refused with those that it takes."""
    if behavior(Rule(kind)).domains:
        with pytest.raises(BadValue, match=f"^{kind} takes .*, got 'learning_speed'"):
            behavior(Rule(kind)).make(learning_speed=1.0)


def check_plain(kind: str) -> None:
    """It survives a trip through JSON, and prints its kind and its numbers."""
    for draw in (
        Draw(6),
        DrawSchedules(7),
        lambda domain: specs.axis(Draw(8)(domain), Draw(9)(domain), log=False),
    ):
        rule = behavior(Rule(kind)).sample(draw)
        again = specs.rebuild(json.loads(json.dumps(specs.plain(rule))))
        assert again == rule
        assert specs.structure(again) == specs.structure(rule)
        assert repr(rule).startswith(f"{kind}(")
        assert all(name in repr(rule) for name in rule.numbers)


def check_words(kind: str) -> None:
    """Its docstring has an equation, its arguments, an example that runs, and the source."""
    own = behavior(Rule(kind))
    check_document(own.make, own.domains)


# --- in a torch loop --------------------------------------------------------------------------------------


def _leaves_of(start: Any) -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(t.clone()) for name, t in start.items()}


def _train(optimizer: Any, params: Any, given: Any) -> None:
    for gradient in given:
        asked = oracle_of({name: p.detach().clone() for name, p in params.items()}, gradient).grad_at

        def closure(asked: Any = asked) -> Any:
            found, value = asked({name: p.detach() for name, p in params.items()})
            for name, p in params.items():
                p.grad = found[name].clone()
            return value

        optimizer.step(closure)


def in_a_loop(kind: str) -> bool:
    """Whether a loop of one's own, with a closure, can give what it asks for."""
    return rules.needs(sample(kind)) <= optim.closure.TOLD


def _agree(ours: Any, theirs: Any, *, fused: bool) -> bool:
    """Bit for bit on the plain path; in one pass, but for rounding (torch rounds by an entry's place in memory)."""
    if not fused:
        return equal(ours, theirs)
    for a, b in zip(tree_leaves(ours), tree_leaves(theirs), strict=True):
        near = 32 * torch.finfo(b.dtype).eps
        finite = b.detach().double().nan_to_num(0.0, 0.0, 0.0)
        size = float(finite.abs().amax()) if b.numel() else 0.0
        if a.dtype != b.dtype or not torch.allclose(
            a.double(), b.double(), near, near * size, equal_nan=True
        ):
            return False
    return True


def _moved(rule: Rule, start: Any, given: Any) -> Any:
    """Where the rule's steps lead; parameters of 16 bits are rounded float32 ones there, with moments in float32."""
    narrow = start["weight"].dtype == torch.bfloat16 and not rules.rounds(rule)
    wide = torch.float32 if narrow else start["weight"].dtype
    seen = {name: p.to(wide) for name, p in start.items()}
    state = rules.init(rule, seen)
    for gradient in given:
        shown = {n: g.to(wide) for n, g in gradient.items()}
        step, state, _ = rules.update(rule, shown, state, seen, oracle=oracle_of(seen, shown))
        seen = {name: (p + step[name]).to(start[name].dtype).to(wide) for name, p in seen.items()}
    return {name: p.to(start[name].dtype) for name, p in seen.items()}


def check_optimizer(kind: str, dtype: torch.dtype, fused: bool) -> None:
    """In a real torch optimizer it takes the same steps, and a saved state goes on bit-equal."""
    rule, start, given = trainer(sample(kind)), tree(140, dtype), gradients(141, dtype)
    if not in_a_loop(kind) or (fused and not rules.one_vector(rule)):
        return
    params = _leaves_of(start)
    optimizer = optim.Optimizer(params.items(), rule, fused=fused)
    assert isinstance(optimizer, torch.optim.Optimizer)
    _train(optimizer, params, given[:3])
    if dtype == torch.float64 or not rules.needs(
        rule
    ):  # a closure sees what it is asked for rounded to 16 bits
        moved = {name: p.detach() for name, p in params.items()}
        assert _agree(_moved(rule, start, given[:3]), moved, fused=fused), f"{kind}: not the rule's steps"

    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copies = _leaves_of({name: p.detach() for name, p in params.items()})
    resumed = optim.Optimizer(copies.items(), rule, fused=fused)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    _train(optimizer, params, given[3:])
    _train(resumed, copies, given[3:])
    assert equal(dict(params), dict(copies)), f"{kind}: a resumed run differs"
    for p, copy in zip(params.values(), copies.values(), strict=True):
        assert equal(optimizer.state.get(p, {}), resumed.state.get(copy, {})), (
            f"{kind}: a resumed state differs"
        )
    assert resumed.steps == optimizer.steps == len(given)


def check_one_pass(kind: str, dtype: torch.dtype) -> None:
    """In one pass it does what it does step by step: any gradient, some missing, groups of their own, uphill too."""
    rule, start = trainer(sample(kind)), tree(170, dtype)
    if rules.needs(rule):
        return
    sides = []
    for fused in (True, False):
        params = _leaves_of(start)
        names = list(params)
        groups: Any = [
            {"params": list(itertools.islice(params.items(), 2)), "maximize": True},
            {"params": list(itertools.islice(params.items(), 2, None))},
        ]
        optimizer = optim.Optimizer(groups, rule, fused=fused)
        for group in optimizer.param_groups[: 1 if rules.one_vector(rule) else 2]:
            if "lr" in group:
                group["lr"] *= 0.5
        for t, size in enumerate((1.0, 0.0, 1e3, 1e-3, 1.0, 1e10)):
            for name, g in tree(171 + t, dtype).items():
                params[name].grad = None if name == names[t % len(names)] else size * g
            optimizer.step(max_norm=1.0 if t == 4 else None)
        sides.append((optimizer, params))
    (fast, ours), (slow, theirs) = sides
    if rules.one_vector(rule) and compiler() is not None:
        assert fast.note == "one pass in C", f"{kind}: {fast.note}"
    assert slow.note.endswith("plain, as it was asked for")
    assert _agree(ours, theirs, fused=True), f"{kind}: in one pass, other steps"
    for p, q in zip(ours.values(), theirs.values(), strict=True):
        assert fast.state.get(p, {}).keys() == slow.state.get(q, {}).keys()
        held = {key: slow.state[q][key] for key in fast.state.get(p, {})}
        assert _agree(dict(fast.state.get(p, {})), held, fused=True), f"{kind}: in one pass, another state"
    assert _agree(fast.info, slow.info, fused=True), f"{kind}: in one pass, something else is told"


def check_torch_schedulers(kind: str) -> None:
    """A torch scheduler that drives its learning rate does what assigning the rate does."""
    if not in_a_loop(kind):
        return
    rule, start, given = trainer(sample(kind)), tree(150), gradients(151)
    first, second = _leaves_of(start), _leaves_of(start)
    driven, assigned = optim.Optimizer(first.items(), rule), optim.Optimizer(second.items(), rule)
    if "lr" not in driven.param_groups[0]:
        return
    rate = driven.param_groups[0]["lr"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(driven, lambda epoch: 0.5**epoch)
    for t, gradient in enumerate(given):
        _train(driven, first, [gradient])
        scheduler.step()
        assigned.param_groups[0]["lr"] = rate * 0.5**t
        _train(assigned, second, [gradient])
    assert equal(dict(first), dict(second))
    still = _leaves_of(start)
    _train(optim.Optimizer(still.items(), rule), still, given)
    assert not equal(dict(first), dict(still)), f"{kind}: the rate of the group has no effect"


def check_scheduled(kind: str) -> None:
    """With schedules as numbers it takes the steps that it takes with their values, one by one."""
    if not in_a_loop(kind):
        return
    rule, start, given = trainer(behavior(Rule(kind)).sample(DrawSchedules(10))), tree(160), gradients(161)
    expected = start
    for direction, _, _ in solo_path(rule, start, given):
        expected = {name: p + direction[name] for name, p in expected.items()}
    for fused in (True, False):
        params = _leaves_of(start)
        _train(optim.Optimizer(params.items(), rule, fused=fused), params, given)
        assert _agree(expected, {name: p.detach() for name, p in params.items()}, fused=fused)


_FLOATS = (torch.float32, torch.float64)
_ALL = (*_FLOATS, torch.bfloat16)
CHECKS: dict[str, Callable[[str], None]] = {
    "reference": lambda kind: check_reference(kind) if has_twin(kind) else None,
    "clipped_reference": check_clipped_reference,
    **{f"fleet_{d}": lambda kind, d=d: check_fleet(kind, d) for d in _FLOATS},
    **{f"neighbors_{d}": lambda kind, d=d: check_neighbors(kind, d) for d in _FLOATS},
    "solo": check_solo,
    "traced": check_traced,
    "untouched": check_untouched,
    **{f"dtypes_{d}": lambda kind, d=d: check_dtypes(kind, d) for d in _ALL},
    "device": check_device,
    "elementwise": check_elementwise,
    "continuous": check_continuous,
    "finite_at_zero": check_finite_at_zero,
    "nan_is_seen": check_nan_is_seen,
    "domains": check_domains,
    "search": check_search,
    "arguments": check_arguments,
    "plain": check_plain,
    "words": check_words,
    **{f"optimizer_{d}": lambda kind, d=d: check_optimizer(kind, d, fused=False) for d in _ALL},
    **{f"optimizer_fused_{d}": lambda kind, d=d: check_optimizer(kind, d, fused=True) for d in _ALL},
    **{f"one_pass_{d}": lambda kind, d=d: check_one_pass(kind, d) for d in _ALL},
    "torch_schedulers": check_torch_schedulers,
    "scheduled": check_scheduled,
    **DECLARED,
}
