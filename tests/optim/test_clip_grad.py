"""Clipping in place against torch's: values, side effects, warnings and errors."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline import optim, rules
from fallline.errors import BadValue

ORDERS = (2.0, 1.0, 3.5, 0.5, math.inf, "inf", 0.0, -math.inf)


def leaves(seed=0, dtype=torch.float32, size=1.0, missing=False):
    random = torch.Generator().manual_seed(seed)
    params = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in ((3, 4), (5,), (), (2, 1, 3))]
    for p in params:
        p.grad = size * torch.randn(p.shape, generator=random, dtype=torch.float32).to(dtype)
    if missing:
        params[1].grad = None
    return params


def assert_alike(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("max_norm", [0.0, 0.1, 100.0, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_equal_torchs(foreach, order, max_norm, dtype):
    ours, theirs = leaves(dtype=dtype, missing=True), leaves(dtype=dtype, missing=True)
    held = [p.grad for p in ours]
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, order, foreach=foreach)
    norm = optim.clip_grad_norm_(ours, max_norm, order, foreach=foreach)
    assert torch.equal(norm, expected) or (norm.isnan() and expected.isnan())
    assert (norm.dtype, norm.shape, norm.requires_grad) == (expected.dtype, expected.shape, False)
    if not norm.isnan():
        assert_alike(ours, theirs)
    assert all(p.grad is g for p, g in zip(ours, held, strict=True))


KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64)


def assorted(seed, device="cpu"):
    """Parameters of several dtypes, one of them tied, one without entries, one that is not contiguous."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 300, (8,), generator=random).tolist()
    params = []
    for size, kind in zip(sizes, torch.randint(0, len(KINDS), (8,), generator=random).tolist(), strict=True):
        p = torch.nn.Parameter(torch.zeros(size, 2, dtype=KINDS[kind], device=device))
        p.grad = (
            torch.randn((2, size), generator=random, dtype=torch.complex64).to(KINDS[kind]).t().to(device)
            if KINDS[kind].is_complex
            else torch.randn((2, size), generator=random).to(KINDS[kind]).t().to(device)
        )
        params.append(p)
    empty = torch.nn.Parameter(torch.zeros(0, device=device))
    empty.grad = torch.zeros(0, device=device)
    return [*params, empty, params[0]]


def told(clip, seed, device, *arguments, **options):
    """What a clip returns or raises, and what it leaves behind."""
    params = assorted(seed, device)
    try:
        found = clip(params, *arguments, **options)
    except (RuntimeError, NotImplementedError) as error:
        return type(error), str(error)
    return found, *(p.grad for p in params)


@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_assorted_gradients_come_out_as_torchs_do(foreach, device):
    for seed in range(10):
        for ours, theirs, bounds in (
            (
                optim.clip_grad_norm_,
                torch.nn.utils.clip_grad_norm_,
                [(0.3, float(o)) for o in (*ORDERS, -1.0)],
            ),
            (optim.clip_grad_value_, torch.nn.utils.clip_grad_value_, [(0.3,)]),
        ):
            for arguments in bounds:
                a, b = (told(f, seed, device, *arguments, foreach=foreach) for f in (ours, theirs))
                for x, y in zip(a, b, strict=True):
                    if isinstance(y, torch.Tensor) and device == "cpu":
                        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
                    elif isinstance(y, torch.Tensor):
                        assert (x.shape, x.dtype, x.device) == (y.shape, y.dtype, y.device)
                    else:
                        assert x == y


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_becomes_what_it_becomes_in_torch(bad):
    ours, theirs = leaves(), leaves()
    ours[0].grad[0, 0] = theirs[0].grad[0, 0] = bad
    norms = [
        clip(p, 1.0) for clip, p in ((optim.clip_grad_norm_, ours), (torch.nn.utils.clip_grad_norm_, theirs))
    ]
    for a, b in zip((norms[0], *(p.grad for p in ours)), (norms[1], *(p.grad for p in theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_error_if_nonfinite_says_what_torch_says(bad):
    ours, theirs = leaves(), leaves()
    ours[2].grad.fill_(bad)
    theirs[2].grad.fill_(bad)
    before = [p.grad.clone() for p in ours]
    with pytest.raises(RuntimeError) as expected:
        torch.nn.utils.clip_grad_norm_(theirs, 1.0, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match=re.escape(str(expected.value))):
        optim.clip_grad_norm_(ours, 1.0, error_if_nonfinite=True)
    for p, g in zip(ours, before, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("limit", [0.0, 0.3, 1, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_equal_torchs(limit, dtype):
    ours, theirs = leaves(dtype=dtype, missing=True), leaves(dtype=dtype, missing=True)
    assert optim.clip_grad_value_(ours, limit) is None
    torch.nn.utils.clip_grad_value_(theirs, limit)
    assert_alike(ours, theirs)


def test_values_keep_nan_and_bound_infinities():
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([math.inf, -math.inf, math.nan])
    optim.clip_grad_value_(p, 2.0)
    assert p.grad[:2].tolist() == [2.0, -2.0]
    assert p.grad[2].isnan()


def test_one_tensor_a_generator_and_nothing():
    (p, *_), (q, *_) = leaves(), leaves()
    assert torch.equal(optim.clip_grad_norm_(p, 0.1), torch.nn.utils.clip_grad_norm_(q, 0.1))
    assert torch.equal(p.grad, q.grad)
    params = leaves()
    optim.clip_grad_norm_((p for p in params), 0.5)
    assert float(torch.nn.utils.get_total_norm([p.grad for p in params])) == pytest.approx(0.5, rel=1e-5)
    optim.clip_grad_value_((p for p in params), 0.01)
    assert max(float(p.grad.abs().max()) for p in params) == pytest.approx(0.01)
    assert torch.equal(optim.clip_grad_norm_([], 1.0), torch.tensor(0.0))
    assert torch.equal(optim.clip_grad_norm_([torch.nn.Parameter(torch.ones(2))], 1.0), torch.tensor(0.0))
    optim.clip_grad_value_([], 1.0)
    with pytest.warns(
        UserWarning, match="`parameters` is an empty generator, no gradient clipping will occur"
    ):
        optim.clip_grad_norm_((p for p in ()), 1.0)


@pytest.mark.parametrize("bound", [-1.0, math.nan])
def test_a_bound_below_zero_teaches(bound):
    with pytest.raises(BadValue, match=rf"clip_grad_norm_\(max_norm={bound}\): .* at least 0; got {bound}"):
        optim.clip_grad_norm_(leaves(), bound)
    with pytest.raises(BadValue, match=r"clip_grad_value_\(clip_value="):
        optim.clip_grad_value_(leaves(), bound)


# --- what clipping is, for any gradient -------------------------------------------------------------------

entries = st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=6)
bounds = st.floats(1e-3, 1e3)


def clipped(rule, *parts):
    gradient = {str(i): torch.tensor(part, dtype=torch.float64) for i, part in enumerate(parts)}
    state = rules.init(rule, gradient)
    return gradient, rules.update(rule, gradient, state, gradient)[0]


def flat(tree):
    return torch.cat(list(tree.values()))


@settings(deadline=None)
@given(entries, entries, bounds)
def test_clip_norm_bounds_the_norm_and_keeps_the_direction(one, two, bound):
    gradient, out = clipped(rules.clip_norm(bound), one, two)
    g, c = flat(gradient), flat(out)
    assert float(c.norm()) <= bound * (1 + 1e-12)
    if float(g.norm()) <= bound:
        assert torch.equal(c, g)
    else:
        assert float(c.norm()) == pytest.approx(bound)
        torch.testing.assert_close(c * (g.norm() / bound), g, rtol=1e-12, atol=1e-12 * float(g.norm()))
    _, again = clipped(rules.clip_norm(bound), *[part.tolist() for part in out.values()])
    torch.testing.assert_close(flat(again), c, rtol=1e-14, atol=0)


@settings(deadline=None)
@given(entries, bounds)
def test_clip_value_bounds_each_entry_and_nothing_else(one, bound):
    gradient, out = clipped(rules.clip_value(bound), one)
    g, c = flat(gradient), flat(out)
    assert bool((c.abs() <= bound).all())
    assert torch.equal(c[g.abs() <= bound], g[g.abs() <= bound])
    assert torch.equal(c.sign(), g.sign())
    _, again = clipped(rules.clip_value(bound), out["0"].tolist())
    assert torch.equal(flat(again), c)


@settings(deadline=None)
@given(entries, entries, bounds)
def test_our_norm_clip_and_torchs_differ_by_its_millionth_only(one, two, bound):
    gradient, out = clipped(rules.clip_norm(bound), one, two)
    params = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradient.values()]
    for p, g in zip(params, gradient.values(), strict=True):
        p.grad = g.clone()
    optim.clip_grad_norm_(params, bound)
    torch.testing.assert_close(torch.cat([p.grad for p in params]), flat(out), rtol=2e-3, atol=1e-300)


def test_a_gradient_whose_squares_overflow_is_clipped():
    gradient = {"w": torch.tensor([3e30, -4e30])}
    step, _, info = rules.update(
        rules.clip_norm(1.0), gradient, rules.init(rules.clip_norm(1.0), gradient), gradient
    )
    torch.testing.assert_close(step["w"], torch.tensor([0.6, -0.8]))
    assert float(info["norm"]) == pytest.approx(5e30)


def test_clips_in_a_fleet_know_their_own_run_only():
    grads = {"w": torch.tensor([[1000.0], [1.0], [0.1]])}
    rule = rules.clip_norm(1.0)

    def one(g, bound):
        return rules.update(rule, g, rules.init(rule, g, {"max_norm": bound}), g, {"max_norm": bound})[0]

    bound = torch.tensor([1.0, 2.0, 0.05], dtype=torch.float64)
    out = torch.func.vmap(one)(grads, bound)
    torch.testing.assert_close(out["w"], torch.tensor([[1.0], [1.0], [0.05]]))
