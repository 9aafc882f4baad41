"""Steps in one pass: against torch's fused ones, on what they are not for, and without a compiler."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch

from fallline import optim, registry, rules
from fallline.errors import BadRule, BadValue
from fallline.native import compiling
from fallline.optim.fused import runner

from .cases import GRID, Problem, deviation

ONE_PASS = "one pass in C"


@pytest.fixture
def _registry():
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


@pytest.fixture
def fused(path: str) -> None:
    """For what is told of one pass only."""
    if path == "plain":
        pytest.skip("about one pass")


def leaves(*shapes, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    params = [torch.nn.Parameter(torch.randn(s, generator=random).to(dtype)) for s in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=random).to(dtype)
    return params


def ulps(ours, theirs, largest):
    """The largest difference in units of the last place of the larger of a weight and a step of size ``largest``."""
    size = theirs.abs().clamp(min=largest)
    return float(((ours - theirs).abs() / (torch.nextafter(size, size + 1) - size)).max())


# --- clipping in the same pass ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GRID))
@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1e6])
def test_clip_and_step_equal_torchs(name, max_norm):
    if name == "NAdam":
        pytest.skip("torch keeps the product of its momenta in float32")
    ours, theirs = Problem(), Problem()
    sides = getattr(optim, name)(ours.params, lr=0.02), getattr(torch.optim, name)(theirs.params, lr=0.02)
    for t in range(10):
        missing = (1,) if t == 3 else ()
        ours.blow(missing)
        theirs.blow(missing)
        before = [p.grad.clone() for p in ours.params if p.grad is not None]
        expected = torch.nn.utils.clip_grad_norm_(theirs.params, max_norm)
        sides[0].step(max_norm=max_norm)
        sides[1].step()
        torch.testing.assert_close(sides[0].info["norm"], expected, rtol=1e-12, atol=0)
        now = [p.grad for p in ours.params if p.grad is not None]
        assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True)), "p.grad stays as it is"
    assert deviation(ours.values(), theirs.values()) < 1e-12


def test_the_norm_is_over_all_groups_and_types():
    (w, v), (a, b) = leaves((3,), (4,)), leaves((3,), (4,))
    for p, q in ((v, b),):
        p.data, q.data = p.data.double(), q.data.double()
        p.grad, q.grad = p.grad.double(), q.grad.double()
    ours = optim.SGD([{"params": [w]}, {"params": [v], "lr": 0.5, "weight_decay": 0.1}], lr=0.1)
    theirs = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5, "weight_decay": 0.1}], lr=0.1)
    ours.step(max_norm=0.5)
    torch.nn.utils.clip_grad_norm_([a, b], 0.5)
    theirs.step()
    torch.testing.assert_close(w, a)
    torch.testing.assert_close(v, b)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stays_so(bad):
    ours, theirs = leaves((3,), (2,)), leaves((3,), (2,))
    ours[0].grad[1] = theirs[0].grad[1] = bad
    optim.SGD(ours, lr=0.1).step(max_norm=1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    torch.optim.SGD(theirs, lr=0.1).step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, equal_nan=True)


def test_a_bad_bound_teaches_before_anything_is_changed():
    params = leaves((3,))
    before = params[0].detach().clone()
    with pytest.raises(BadValue, match=r"step\(max_norm=-1.0\): .* at least 0; got -1.0"):
        optim.SGD(params).step(max_norm=-1.0)
    assert torch.equal(params[0], before)
    params[0].grad = None
    optim.SGD(params).step(max_norm=1.0)
    assert torch.equal(params[0], before)


def test_within_4_ulp_of_torchs_fused():
    """A step from the same parameters, in float32, on tensors of several blocks."""
    shapes = ((300_007,), (500, 600), (5,))
    ours, theirs = leaves(*shapes), leaves(*shapes)
    sides = optim.AdamW(ours, lr=1e-3), torch.optim.AdamW(theirs, lr=1e-3, fused=True)
    for t in range(3):
        for p, q, g in zip(ours, theirs, leaves(*shapes, seed=t), strict=True):
            p.grad, q.grad = g.grad, g.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        sides[0].step(max_norm=1.0)
        sides[1].step()
        for p, q in zip(ours, theirs, strict=True):
            assert ulps(p.detach(), q.detach(), 1e-3) <= 4
            p.data.copy_(q.data)


# --- what one pass is for -----------------------------------------------------------------------------------


def clipped_and_routed():
    rule = rules.route({"0": rules.sgd(lr=0.3)}, otherwise=rules.adamw(lr=0.1))
    return rules.chain(rules.clip_norm(0.5), rules.clip_value(0.2), rules.average(rule, decay=0.5))


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_rule_of_many_parts_is_one_pass(dtype):
    shapes = ((3, 4), (5,), (), (0,), (2, 1, 3))
    sides = []
    for fused in (None, False):
        params = leaves(*shapes, dtype=dtype)
        optimizer = optim.Optimizer(params, clipped_and_routed(), fused=fused)
        for t in range(5):
            for p, g in zip(params, leaves(*shapes, dtype=dtype, seed=t), strict=True):
                p.grad = g.grad
            optimizer.step()
        sides.append((params, optimizer))
    (ours, fast), (theirs, slow) = sides
    assert (fast.note, slow.note) == (ONE_PASS, "chain: plain, as it was asked for")
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=16 * torch.finfo(dtype).eps, atol=16 * torch.finfo(dtype).eps)
    torch.testing.assert_close(fast.info["norm"], slow.info["norm"], check_dtype=False)


@pytest.mark.usefixtures("fused")
def test_parameters_of_several_types_share_a_norm():
    rule = rules.chain(rules.clip_norm(0.5), rules.momentum(lr=0.1))
    sides = []
    for fused in (None, False):
        params = [*leaves((7,)), *leaves((5,), dtype=torch.bfloat16), *leaves((2, 3), dtype=torch.float64)]
        optimizer = optim.Optimizer(params, rule, fused=fused)
        optimizer.step()
        sides.append((optimizer, params))
    assert sides[0][0].note == ONE_PASS
    for p, q in zip(sides[0][1], sides[1][1], strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.usefixtures("fused")
def test_numbers_are_data(monkeypatch):
    params = leaves((5,))
    optimizer = optim.Optimizer(params, rules.adamw(lr=0.1))
    optimizer.step()
    monkeypatch.setattr("fallline.optim.fused.program.loaded", None)
    optimizer.param_groups[0].update(lr=0.01, weight_decay=0.0, beta1=0.5)
    twin = copy.deepcopy(optimizer.state_dict())
    before = params[0].detach().clone()
    optimizer.step()
    plain = torch.nn.Parameter(before)
    plain.grad = params[0].grad
    slow = optim.Optimizer([plain], rules.adamw(lr=0.1), fused=False)
    slow.load_state_dict(twin)
    slow.step()
    torch.testing.assert_close(params[0], plain)
    assert optimizer.note == ONE_PASS


@pytest.mark.usefixtures("fused")
def test_digits_do_not_depend_on_threads():
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            params = leaves((700_001,), (300, 1000), (3,))
            rule = rules.chain(rules.clip_norm(0.5), rules.adamw(lr=0.1))
            optimizer = optim.Optimizer(params, rule)
            for _ in range(2):
                optimizer.step()
            assert optimizer.note == ONE_PASS
            found.append([*params, optimizer.info["norm"]])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.usefixtures("fused")
def test_digits_do_not_depend_on_an_entrys_place():
    """Unlike torch's, whose loops end in vectors that are not full."""
    (whole,) = leaves((1003,))
    pieces = [torch.nn.Parameter(t.clone()) for t in whole.detach().split(17)]
    for piece, g in zip(pieces, whole.grad.split(17), strict=True):
        piece.grad = g.clone()
    for params in ([whole], pieces):
        optimizer = optim.AdamW(params, lr=0.1, weight_decay=0.3)
        for _ in range(3):
            optimizer.step()
    assert torch.equal(whole, torch.cat([p.detach() for p in pieces]))


def test_a_graph_from_before_a_step_is_stale_after_it():
    w = torch.nn.Parameter(torch.ones(3))
    loss = (w * w).sum()
    w.grad = torch.ones(3)
    optim.AdamW([w]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# --- what it is not for -------------------------------------------------------------------------------------


def both(rule, *shapes, change=lambda params: None):
    """The parameters after three steps with and without leave to take one pass, and what is noted."""
    sides = []
    for fused in (None, False):
        params = leaves(*shapes)
        change(params)
        optimizer = optim.Optimizer(params, rule, fused=fused)
        for _ in range(3):
            optimizer.step()
        sides.append((params, optimizer))
    for p, q in zip(sides[0][0], sides[1][0], strict=True):
        torch.testing.assert_close(p, q)
    return sides[0][1].note


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("pattern", [lambda name, shape: len(shape) == 2, rules.where(ndim=2), "0"])
def test_a_route_by_name_or_shape_is_one_pass(pattern):
    rule = rules.route({pattern: rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.1))
    assert both(rule, (3, 2), (4,), (2, 2)) == ONE_PASS


@pytest.mark.usefixtures("fused")
def test_a_rule_that_rounds_is_stepped_plainly():
    assert (
        both(rules.round_at_random(rules.sgd(lr=0.1)), (3, 2), (4,))
        == "round_at_random: plain, as it is more than a loop over entries"
    )


def test_a_clip_around_a_rule_that_asks_for_other_gradients_is_refused():
    (p,) = leaves((3,))
    before = p.detach().clone()
    with pytest.raises(BadRule, match=r"step\(max_norm=1.0\) clips the gradients that are there, and sam"):
        optim.SAM([p], rules.sgd(lr=0.1)).step(lambda: 0.0, max_norm=1.0)
    with pytest.raises(
        BadRule, match=r"LBFGS.step\(max_norm=1.0\): a line search needs the gradients as they are"
    ):
        optim.LBFGS([p]).step(lambda: 0.0, max_norm=1.0)
    assert torch.equal(p, before)


@pytest.mark.usefixtures("_registry", "fused")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_rule_that_looks_at_shapes_is_found_in_any_type(dtype):
    """Rounding to 16 bits hides much: what is proven must not be hidden by it."""

    @rules.per_tensor()
    def matrices_slower(g, s, p, h):
        return (0.9 * g if p.ndim == 2 else g), {}

    optimizer = optim.Optimizer(
        leaves((3, 2), (4,), dtype=dtype), rules.chain(matrices_slower(), rules.descend(0.1))
    )
    optimizer.step()
    assert optimizer.note == "chain: plain, as it is more than a loop over entries"


@pytest.mark.usefixtures("_registry", "fused")
def test_a_state_of_another_shape_is_never_written_past():
    @rules.per_tensor(state={"rows": lambda p, h: torch.zeros(p.shape[:1])})
    def by_rows(g, s, p, h):
        return g, {"rows": s.rows + 1}

    assert both(rules.chain(by_rows(), rules.descend(0.1)), (3, 2), (4,)).startswith("chain: plain, as ")
    (p,) = leaves((50,))
    optimizer = optim.Optimizer([p], rules.momentum(lr=0.1))
    optimizer.step()
    assert optimizer.note == ONE_PASS
    (key,) = optimizer.state[p]
    optimizer.state[p][key] = torch.zeros(1)
    optimizer.step()
    assert optimizer.note == "momentum: plain, as a state has not the shape of its parameter"


def lying_by_shape():
    @rules.per_tensor()
    def matrices_apart(g, s, p, h):
        return (g if p.ndim == 2 else g.sign()), {}

    return matrices_apart()


def lying_by_norm():
    @rules.per_tensor()
    def normalized(g, s, p, h):
        return g / g.norm(), {}

    return normalized()


def undeclared_sum():
    @rules.whole_tree()
    def each_by_its_own(tree, s, params, h):
        return {name: g / g.norm() for name, g in tree.items()}, {}, {}

    return each_by_its_own()


def with_tree_state():
    @rules.whole_tree(state={"taken": lambda params, h: torch.zeros((), dtype=torch.float64)})
    def counted(tree, s, params, h):
        return tree, {"taken": s.taken + 1}, {}

    return counted()


def unknown_operation():
    @rules.per_tensor()
    def summed_up(g, s, p, h):
        return g.flatten().cumsum(0).view_as(g), {}

    return summed_up()


def by_value():
    @rules.per_tensor()
    def looked_at(g, s, p, h):
        return (g if g.sum() > 0 else -g), {}

    return looked_at()


def at_random():
    @rules.per_tensor()
    def scattered(g, s, p, h):
        return g + 0 * torch.rand_like(g), {}

    return scattered()


@pytest.mark.usefixtures("_registry", "fused")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lying_by_shape, "as it is more than a loop over entries"),
        (lying_by_norm, "as C has no sum over a single tensor in a loop over all"),
        (undeclared_sum, "as it is more than a loop over entries"),
        (with_tree_state, "as it is more than a loop over entries"),
        (unknown_operation, "as C has no aten.cumsum.default"),
        (by_value, "as C has no .* makes a decision hang on the value of a tensor"),
        (at_random, "as C has no .* takes numbers from torch's own random stream"),
    ],
)
def test_what_is_more_than_a_loop_over_entries_is_stepped_plainly_and_says_so(make, said):
    import re

    note = both(rules.chain(make(), rules.descend(0.1)), (3, 2), (4,))
    assert re.fullmatch(f"chain: plain, {said}", note)


@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize(
    "change",
    [
        lambda params: setattr(params[0], "data", params[0].data.t()),
        lambda params: setattr(params[0], "grad", params[0].grad.t().contiguous().t()),
        lambda params: [
            setattr(p, "data", p.data.half()) or setattr(p, "grad", p.grad.half()) for p in params[1:]
        ],
    ],
)
def test_tensors_that_are_no_plain_piece_of_memory(change):
    def square(params):
        params[0].data, params[0].grad = torch.arange(9.0).view(3, 3), torch.arange(9.0).view(3, 3) / 7
        change(params)

    note = both(rules.momentum(lr=0.1), (3, 3), (4,), change=square)
    assert note == "momentum: plain, as a tensor is not dense on the CPU in float32, float64 or bfloat16"


@pytest.mark.parametrize("kind", ["parameter", "state", "dict", "type"])
def test_what_is_put_in_the_place_of_a_tensor_is_seen(kind):
    """Memory may be moved behind an optimizer's back: to another device and back, or to another type."""
    (p,) = leaves((5,))
    optimizer = optim.Optimizer([p], rules.momentum(lr=0.1))
    optimizer.step()
    (key,) = optimizer.state[p]
    if kind == "parameter":
        p.data = p.data.clone()
    elif kind == "state":
        optimizer.state[p][key].data = optimizer.state[p][key].data.clone()
    elif kind == "dict":
        optimizer.state[p] = {key: optimizer.state[p][key].clone()}
    else:
        p.data, p.grad = p.data.double(), p.grad.double()
        optimizer.state[p][key].data = optimizer.state[p][key].data.double()
    held, w, g = optimizer.state[p][key].clone(), p.detach().clone(), p.grad
    optimizer.step()
    torch.testing.assert_close(optimizer.state[p][key], 0.9 * held - 0.1 * g)
    torch.testing.assert_close(p.detach(), w + 0.9 * held - 0.1 * g)


def test_a_norm_needs_one_bound_for_all_groups():
    w, v = leaves((2,), (3,))
    rule = rules.chain(rules.clip_norm(1.0), rules.sgd(lr=0.1))
    optimizer = optim.Optimizer([{"params": [w]}, {"params": [v], "lr": 0.5}], rule)
    optimizer.step()
    optimizer.param_groups[0]["max_norm"] = 7.0
    before = w.detach().clone()
    with pytest.raises(
        BadRule, match=r"max_norm must be one number for all parameter groups, got \[1.0, 7.0\]"
    ):
        optimizer.step()
    assert torch.equal(w, before)


# --- without a compiler -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fused")
def test_without_a_compiler_it_says_so_once_and_stays_correct(monkeypatch):
    monkeypatch.setattr(runner, "compiler", lambda: None)
    runner.available.cache_clear()
    ours, theirs = leaves((3, 2)), leaves((3, 2))
    optimizer = optim.AdamW(ours)
    with pytest.warns(
        UserWarning, match="fallline found no C compiler .* which is slower and gives the same numbers"
    ):
        optimizer.step(max_norm=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        optim.Adam(leaves((2,))).step()
    runner.available.cache_clear()
    peer = torch.optim.AdamW(theirs)
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    peer.step()
    theirs[0].grad = ours[0].grad
    peer.step()
    torch.testing.assert_close(ours[0], theirs[0])
    assert optimizer.note == "chain: plain, as this machine has no C compiler"


@pytest.mark.usefixtures("fused")
def test_a_compiler_that_fails_is_told(monkeypatch):
    monkeypatch.setattr("fallline.optim.fused.program.FLAGS", ("--no-such-flag",))
    compiling.loaded.cache_clear()
    (p,) = leaves((3,))
    optimizer = optim.SGD([p], lr=0.1)
    expected = p.detach() - 0.1 * p.grad
    with pytest.warns(
        UserWarning, match="the C compiler refused a program, and torch's operations take its place: "
    ):
        optimizer.step()
    torch.testing.assert_close(p.detach(), expected)
    assert optimizer.note.startswith("chain: plain, as C has no compiler here that takes it: ")
    compiling.loaded.cache_clear()


# --- on another device --------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_it_takes_torchs_steps():
    ours, theirs = ([torch.nn.Parameter(p.detach().cuda()) for p in leaves((30, 20), (7,))] for _ in range(2))
    sides = optim.AdamW(ours, lr=0.01), torch.optim.AdamW(theirs, lr=0.01, foreach=True)
    for t in range(5):
        for p, q, g in zip(ours, theirs, leaves((30, 20), (7,), seed=t), strict=True):
            p.grad, q.grad = g.grad.cuda(), g.grad.cuda()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        sides[0].step(max_norm=1.0)
        sides[1].step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)
