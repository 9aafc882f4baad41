"""What the battery of rules does not say about clips: orders, windows, units, and what they do to any gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline import optim, rules, specs
from fallline.errors import BadRule, BadValue
from fallline.rules import reference
from fallline.rules.parse import parse

ORDERS = (1.0, 1.5, 2.0, 3.0, math.inf)


def gradients(seed, count=1, size=1.0):
    random = np.random.default_rng(seed)
    sizes = size * 10 ** random.uniform(-2, 2, count)
    return [[s * random.normal(size=shape) for shape in ((3, 4), (5,), (), (0,), (2, 3, 2))] for s in sizes]


def tree(arrays):
    return {str(i): torch.tensor(a, dtype=torch.float64) for i, a in enumerate(arrays)}


def path(rule, given, params=None):
    """Gradients as a rule gives them on, and what it tells, one after another."""
    params = tree(given[0]) if params is None else params
    state = rules.init(rule, params)
    for gradient in given:
        out, state, info = rules.update(rule, tree(gradient), state, params)
        yield [g.numpy() for g in out.values()], info


def assert_near(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300)


# --- orders of the norm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_orders_follow_the_twin_and_torch(order):
    given = gradients(0, 10)
    twins = reference.twin("clip_norm")(given, max_norm=2.0, order=order)
    for gradient, (ours, info), twin in zip(
        given, path(rules.clip_norm(2.0, order), given), twins, strict=True
    ):
        assert_near(ours, twin)
        params = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in gradient if g.size]
        for p, g in zip(params, (g for g in gradient if g.size), strict=True):
            p.grad = torch.tensor(g)
        total = optim.clip_grad_norm_(params, 2.0, order)
        assert float(info["norm"]) == pytest.approx(float(total), rel=1e-12)
        for p, a in zip(params, (a for a in ours if a.size), strict=True):
            np.testing.assert_allclose(a, p.grad, rtol=1e-5)  # torch adds 1e-6 to the norm


def test_an_order_is_data_that_prints_and_is_stored():
    rule = rules.clip_norm(1.0, order="inf")
    assert repr(rule) == "clip_norm(max_norm=1, order=inf)"
    assert specs.rebuild(specs.plain(rule)) == rule == rules.clip_norm(1.0, math.inf)
    assert specs.structure(rule) != specs.structure(rules.clip_norm(1.0))
    assert rules.clip_norm(1.0, 2) == rules.clip_norm(1.0)
    assert parse("clip_norm(1.0, order='inf')") == rule


@pytest.mark.parametrize("order", [0, 0.5, -1, math.nan, "two", None, True])
def test_an_order_that_is_no_norm_teaches(order):
    with pytest.raises(
        BadValue, match=r"order is the p of a norm, a number of at least 1 or \"inf\"; below 1 it is no"
    ):
        rules.clip_norm(1.0, order)


def test_clips_do_not_follow_a_rule_that_is_done():
    done = rules.chain(rules.descend(0.1), rules.shrink(0.1, 0.01))
    for clip in (rules.clip_norm(1.0), rules.clip_quantile(0.5)):
        with pytest.raises(BadRule, match="cannot follow a rule that ends in a step of its own"):
            rules.chain(done, clip)


# --- the last norms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 5, 100])
@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_a_quantile_of_a_window_follows_numpys(window, quantile):
    given = gradients(1, 25)
    twins = reference.twin("clip_quantile")(given, quantile=quantile, window=window)
    for (ours, _), twin in zip(path(rules.clip_quantile(quantile, window), given), twins, strict=True):
        assert_near(ours, twin)


def test_what_a_quantile_lets_through():
    given = gradients(2, 30)
    told = [info for _, info in path(rules.clip_quantile(1.0, 5), given)]
    assert all(float(info["share"]) == 1 for info in told)
    lowest = [float(i["bound"]) for _, i in path(rules.clip_quantile(0.0, 100), given)]
    norms = [float(i["norm"]) for i in told]
    assert lowest == list(np.minimum.accumulate(norms))
    assert all(float(i["share"]) == 1 for _, i in path(rules.clip_quantile(0.0, 1), given))


def test_what_is_not_finite_is_given_on_and_forgotten():
    given = gradients(3, 6)
    for bad in (math.nan, math.inf):
        spoilt = [given[0], given[1], [np.full_like(g, bad) for g in given[2]], *given[2:]]
        clean, seen = (
            list(path(rules.clip_quantile(0.5, 3), given)),
            list(path(rules.clip_quantile(0.5, 3), spoilt)),
        )
        assert not np.isfinite(seen[2][0][0]).any()
        for (a, _), (b, _) in zip(clean, seen[:2] + seen[3:], strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_runs_of_a_fleet_have_their_own_quantiles_and_memories():
    given = gradients(4, 8)
    shares = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    scales = torch.tensor([1.0, 1e6, 1e-6], dtype=torch.float64)
    rule = rules.clip_quantile(0.5, 4)

    def one(gradient, state, share, scale):
        own = {name: g * scale for name, g in gradient.items()}
        out, state, _ = rules.update(rule, own, state, own, {"quantile": share})
        return out, state

    state = torch.func.vmap(lambda s: rules.init(rule, tree(given[0]), {"quantile": s}))(shares)
    runs = [
        path(rules.clip_quantile(float(s), 4), [[g * float(c) for g in gr] for gr in given])
        for s, c in zip(shares, scales, strict=True)
    ]
    for gradient in given:
        out, state = torch.func.vmap(one, in_dims=(None, 0, 0, 0))(tree(gradient), state, shares, scales)
        for i, alone in enumerate(runs):
            assert_near([g[i].numpy() for g in out.values()], next(alone)[0])


def test_a_step_without_gradients_is_not_remembered():
    rule, w = rules.clip_quantile(0.5, 3), {"w": torch.ones(2, dtype=torch.float64)}
    state = rules.init(rule, w)
    out, after, _ = rules.update(rule, {}, state, w)
    assert out == {}
    assert float(after.tree["count"]) == 0
    assert after.tree["norms"] is state.tree["norms"]


@pytest.mark.parametrize("window", [0, -1, 2.0, True, None])
def test_a_window_that_is_no_count_teaches(window):
    with pytest.raises(
        BadValue, match="window is how many norms are remembered, a whole number of at least 1"
    ):
        rules.clip_quantile(0.5, window)


# --- unit by unit -------------------------------------------------------------------------------------------

numbers = st.floats(1e-4, 1e4)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), numbers, st.floats(1e-6, 1.0))
def test_no_units_gradient_is_above_its_share(seed, share, eps):
    (gradient,), (weights,) = gradients(seed), gradients(seed + 1)
    ((ours, _),) = path(rules.clip_units(share, eps), [gradient], tree(weights))
    for g, w, c in zip(gradient, weights, ours, strict=True):
        for unit, weight, clipped in zip(g, w, c, strict=True) if g.ndim > 1 else [(g, w, c)]:
            bound = share * max(np.linalg.norm(weight), eps)
            assert np.linalg.norm(clipped) <= bound * (1 + 1e-12)
            if np.linalg.norm(unit) <= bound:
                assert np.array_equal(unit, clipped)
            else:
                np.testing.assert_allclose(clipped * np.linalg.norm(unit) / bound, unit, rtol=1e-10)


def test_units_are_the_rows_of_linear_layers_and_the_channels_of_convolutions():
    """Scaling what leads into one output changes that output's clip and no other's."""
    for layer in (torch.nn.Linear(3, 4), torch.nn.Conv2d(2, 4, 3)):
        weights = {"w": layer.weight.detach().double()}
        gradient = {"w": torch.ones_like(weights["w"])}
        rule = rules.clip_units(0.01, 1e-3)
        state = rules.init(rule, weights)
        before, _, _ = rules.update(rule, gradient, state, weights)
        weights["w"][2] *= 2
        after, _, _ = rules.update(rule, gradient, state, weights)
        torch.testing.assert_close(after["w"][2], 2 * before["w"][2])
        torch.testing.assert_close(after["w"][:2], before["w"][:2], rtol=0, atol=0)


def test_weights_that_start_at_zero_can_move():
    w = {"b": torch.zeros(3, dtype=torch.float64)}
    out, _, _ = rules.update(
        rules.clip_units(0.5, 0.1), {"b": torch.ones(3, dtype=torch.float64)}, rules.init(rules.sgd(), w), w
    )
    assert float(out["b"].norm()) == pytest.approx(0.05)


def test_the_last_layer_is_left_out_by_route():
    clip = rules.route({"head.*": rules.identity()}, otherwise=rules.clip_units(0.01, 1e-3))
    rule = rules.chain(clip, rules.sgd(lr=1.0))
    w = {name: torch.ones(2, 2) for name in ("body.weight", "head.weight")}
    step, _, _ = rules.update(rule, {n: 9 * g for n, g in w.items()}, rules.init(rule, w), w)
    assert step["head.weight"].tolist() == [[-9.0, -9.0]] * 2
    torch.testing.assert_close(step["body.weight"], torch.full((2, 2), -0.01))
