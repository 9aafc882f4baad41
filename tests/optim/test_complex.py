"""Complex parameters: each is two real ones in the same memory, as in torch."""

import copy
import io

import numpy as np
import pytest
import torch

from fallline import optim, rules
from fallline.errors import BadValue

from .cases import GRID, cases

COMPLEX = [torch.complex64, torch.complex128]


@pytest.fixture(autouse=True)
def _double():
    """Torch keeps the product of NAdam's momenta in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def leaves(dtype=torch.complex128):
    random = torch.Generator().manual_seed(0)
    shapes = ((3, 2), (4,), ())
    return [torch.nn.Parameter(torch.randn(s, generator=random, dtype=dtype)) for s in shapes]


def blow(params, t):
    random = torch.Generator().manual_seed(t + 1)
    for p in params:
        p.grad = 0.3 * p.detach() + torch.randn(p.shape, generator=random, dtype=p.dtype)


def closure_of(params, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = sum(((p - (1 + 2j)).abs() ** 2 + p.real**4).sum() for p in params)
        loss.backward()
        return loss

    return closure


def assert_equal(ours, theirs, **tolerance):
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), **tolerance)


@pytest.mark.parametrize("name", GRID)
def test_steps_and_state_are_torchs_under_every_option(name):
    for _, options in (case for case in cases() if case[0] == name):
        ours, theirs = leaves(), leaves()
        sides = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
        for t in range(6):
            if t == 3:
                sides[0].load_state_dict(copy.deepcopy(sides[1].state_dict()))
            for params, optimizer in zip((ours, theirs), sides, strict=True):
                blow(params, t)
                optimizer.step()
            assert_equal(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_takes_torchs_steps_and_finds_the_lowest_point(search):
    ours, theirs = leaves(), leaves()
    sides = [
        cls(params, lr=0.1 if search is None else 1.0, max_iter=5, line_search_fn=search)
        for cls, params in ((optim.LBFGS, ours), (torch.optim.LBFGS, theirs))
    ]
    for params, optimizer in zip((ours, theirs), sides, strict=True):
        for _ in range(10):
            optimizer.step(closure_of(params, optimizer))
    if search is None:
        assert_equal(ours, theirs, rtol=1e-9, atol=1e-9)
        return
    lowest = next(z.real for z in np.roots([4, 0, 2, -2]) if abs(z.imag) < 1e-9)  # of (x − 1)² + x⁴
    assert_equal(ours, [torch.full_like(p, complex(lowest, 2)) for p in ours], rtol=0, atol=1e-3)


@pytest.mark.parametrize("max_norm", [0.3, 1e3])
def test_a_clip_in_the_same_pass_is_torchs(max_norm):
    ours, theirs = leaves(), leaves()
    sides = optim.AdamW(ours, lr=0.1), torch.optim.AdamW(theirs, lr=0.1)
    for t in range(4):
        blow(ours, t)
        blow(theirs, t)
        norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        sides[0].step(max_norm=max_norm)
        sides[1].step()
        torch.testing.assert_close(sides[0].info["norm"], norm)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize(
    "rule",
    [
        rules.chain(rules.clip_norm(0.5), rules.average(rules.adam(lr=0.1), decay=0.5)),
        rules.schedule_free_sgd(lr=0.1),
        rules.sam(rules.momentum(lr=0.01), rho=0.1),
        rules.lbfgs(lr=0.5),
    ],
    ids=lambda rule: rule.kind,
)
def test_a_rule_does_with_pairs_what_it_does_with_real_numbers(rule, dtype):
    """Also where it is evaluated, asked through a closure, saved and loaded."""
    ours = leaves(dtype)
    pairs = [torch.nn.Parameter(torch.view_as_real(p.detach().clone())) for p in ours]
    first, second = optim.Optimizer(ours, rule), optim.Optimizer(pairs, rule)

    def closure():
        second.zero_grad()
        return closure_of([torch.view_as_complex(p) for p in pairs], first)()

    for t in range(6):
        if t == 3:
            file = io.BytesIO()
            torch.save(first.state_dict(), file)
            file.seek(0)
            first = optim.Optimizer(ours, rule)
            first.load_state_dict(torch.load(file, weights_only=True))
        first.step(closure_of(ours, first))
        second.step(closure)
        assert_equal(map(torch.view_as_real, ours), pairs)
        with first.evaluating(), second.evaluating():
            assert_equal(map(torch.view_as_real, ours), pairs)
        assert_equal(map(torch.view_as_real, ours), pairs)


@pytest.mark.parametrize("rule", [rules.muon(), rules.shampoo(), rules.adafactor(), rules.centralize()])
def test_a_rule_that_looks_at_shapes_says_so(rule):
    rule = rule if rule.kind != "centralize" else rules.chain(rule, rules.sgd(lr=0.1))
    params = leaves()
    blow(params, 0)
    before = [p.detach().clone() for p in params]
    optimizer = optim.Optimizer(params, rule)
    with pytest.raises(
        BadValue, match=r"parameter '0' is complex, and .* looks at shapes: train torch.view_as_real"
    ):
        optimizer.step()
    assert_equal(params, before, rtol=0, atol=0)
    assert not any(optimizer.state.values())
