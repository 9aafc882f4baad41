"""Rules that see matrices or ask an oracle, alone: what they promise beyond their twins."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallline import rules
from fallline.errors import BadRule, BadValue
from fallline.rules import reference
from fallline.rules.base import Oracle
from fallline.rules.selecting import hidden_matrices, layers, pairs
from fallline.rules.spectra import inverse_power, orthogonal, shape_scale

EXACT = (15 / 8, -10 / 8, 3 / 8)
"""Coefficients whose steps converge to singular values of 1."""


def matrix(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(rule, gradient, params=None, oracle=None):
    params = params or {name: torch.zeros_like(g) for name, g in gradient.items()}
    return rules.update(rule, gradient, rules.init(rule, params), params, None, oracle)[0]


# --- orthogonal steps -------------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    smallest=st.floats(0.02, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_newton_schulz_keeps_singular_vectors_and_brings_singular_values_near_one(
    rows, columns, seed, smallest
):
    """Against a decomposition: of values from 0.02 to 1, times any scale, all come into [0.65, 1.25]."""
    u, _, v = torch.linalg.svd(matrix(rows, columns, seed=seed), full_matrices=False)
    values = torch.linspace(smallest, 1.0, min(rows, columns), dtype=torch.float64)
    turned = u.mT @ orthogonal(1e3 * (u * values) @ v) @ v.mT
    torch.testing.assert_close(turned, torch.diag(turned.diag()), rtol=0, atol=1e-9)
    assert bool(((turned.diag() > 0.65) & (turned.diag() < 1.25)).all())


@given(rows=st.integers(1, 7), columns=st.integers(1, 7), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_with_coefficients_that_converge_it_is_the_orthogonal_factor(rows, columns, seed):
    u, s, v = torch.linalg.svd(matrix(rows, columns, seed=seed), full_matrices=False)
    g = (u * s.clamp(min=0.05)) @ v
    torch.testing.assert_close(orthogonal(g, 40, EXACT), u @ v, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ["original", "match_rms_adamw", "spectral", "none"])
def test_steps_are_scaled_for_the_shape(variant):
    """A step of Muon has the root mean square, or the norm, that its variant promises."""
    rule = rules.orthogonalize(1e-7, 40, variant, "own", EXACT)
    for shape in ((8, 2), (2, 8), (5, 5), (4, 2, 3, 1)):
        out = step(rule, {"w": matrix(*shape)})["w"].reshape(shape[0], -1)
        rows, columns = out.shape
        largest = float(torch.linalg.matrix_norm(out, 2))
        wanted = {
            "original": max(1, rows / columns) ** 0.5, "spectral": (rows / columns) ** 0.5, "none": 1.0,
            "match_rms_adamw": 0.2 * max(rows, columns) ** 0.5,
        }[variant]  # fmt: skip
        assert largest == pytest.approx(wanted, rel=1e-9)
        if variant == "match_rms_adamw":
            assert float(out.square().mean().sqrt()) == pytest.approx(0.2)
        assert shape_scale(variant, rows, columns) == pytest.approx(wanted)


def test_matrices_of_one_shape_are_turned_together_as_alone():
    tree = {"a": matrix(3, 5), "b": matrix(3, 5, seed=1), "c": matrix(5, 3, seed=2)}
    rule = rules.orthogonalize(1e-7)
    together = step(rule, tree)
    for name, g in tree.items():
        torch.testing.assert_close(together[name], step(rule, {name: g})[name], rtol=1e-12, atol=1e-12)


# --- Shampoo ----------------------------------------------------------------------------------------------


def test_tiles_are_matrices_of_their_own():
    g = matrix(5, 7)
    whole = step(rules.scale_by_shampoo(1.0, 0.1, block_size=3), {"w": g})["w"]
    for rows in (slice(0, 3), slice(3, 5)):
        for columns in (slice(0, 3), slice(3, 6), slice(6, 7)):
            alone = step(rules.scale_by_shampoo(1.0, 0.1), {"w": g[rows, columns]})["w"]
            torch.testing.assert_close(whole[rows, columns], alone)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (3, 2, 2)])
def test_one_side_is_the_shorter_one_with_its_root(shape):
    g = matrix(*shape)
    out = step(rules.scale_by_shampoo(1.0, 0.1, sides="smaller"), {"w": g})["w"].reshape(shape[0], -1).numpy()
    m = g.reshape(shape[0], -1).numpy()
    left = m.shape[0] <= m.shape[1]
    values, vectors = np.linalg.eigh(m @ m.T if left else m.T @ m)
    root = vectors / np.sqrt(values + 0.1) @ vectors.T
    np.testing.assert_allclose(out, root @ m if left else m @ root, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("graft", "size"), [("sgd", lambda g: g), ("adagrad", lambda g: g / (g * g + 0.1).sqrt())]
)
def test_grafting_keeps_the_direction_and_takes_the_size(graft, size):
    g = matrix(4, 6)
    own = step(rules.scale_by_shampoo(1.0, 0.1), {"w": g})["w"]
    out = step(rules.scale_by_shampoo(1.0, 0.1, graft=graft), {"w": g})["w"]
    assert float(out.norm()) == pytest.approx(float(size(g).norm()))
    torch.testing.assert_close(out / out.norm(), own / own.norm())


@given(n=st.integers(1, 6), power=st.sampled_from([0.25, 0.5, 1.0]), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_an_inverse_power_undoes_the_power(n, power, seed):
    x = matrix(n, n + 1, seed=seed)
    m = x @ x.mT
    whole = torch.linalg.matrix_power(inverse_power(m, power, 0.3), round(1 / power))
    torch.testing.assert_close(whole @ (m + 0.3 * torch.eye(n, dtype=m.dtype)), torch.eye(n, dtype=m.dtype))


def test_a_matrix_that_is_not_finite_gives_nan_and_no_error():
    bad = torch.full((3, 3), torch.inf, dtype=torch.float64)
    assert bool(inverse_power(bad, 0.5, 0.1).isnan().all())


# --- Fisher matrices --------------------------------------------------------------------------------------


def test_conjugate_gradients_end_after_as_many_steps_as_there_are_eigenvalues():
    x = matrix(6, 6)
    fisher = x @ x.mT
    oracle = Oracle(fisher_vp=lambda kind: lambda v: {"w": fisher @ v["w"]})
    g = {"w": matrix(6, seed=1)}
    found = step(rules.precondition_by_fisher(0.5, "exact", iterations=6), g, oracle=oracle)["w"]
    torch.testing.assert_close(
        found, torch.linalg.solve(fisher + 0.5 * torch.eye(6, dtype=torch.float64), g["w"])
    )


def outputs(x, theta, bent):
    """Log-probabilities of three classes, linear in w; w = θ, or w = sinh θ."""
    w = theta.sinh() if bent else theta
    return (x @ w.reshape(2, 2)) @ torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]], dtype=x.dtype)


def moved(start, rate, bent, kind="natural"):
    """By how much the outputs change in one step from the same function, in one of two parametrizations."""
    x, y = matrix(30, 2, seed=5), torch.arange(30) % 3
    theta = start.asinh() if bent else start

    def loss(t):
        return torch.nn.functional.cross_entropy(outputs(x, t, bent), y)

    J = torch.func.jacrev(lambda t: outputs(x, t, bent))(theta)
    p = outputs(x, theta, bent).softmax(1)
    H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    fisher = torch.einsum("nka,nkl,nlb->ab", J, H, J) / 30
    oracle = Oracle(fisher_vp=lambda kind: lambda v: {"w": fisher @ v["w"]})
    rule = rules.natural_gradient(rate, 1e-14) if kind == "natural" else rules.sgd(rate)
    d = step(rule, {"w": torch.func.grad(loss)(theta)}, {"w": theta}, oracle)["w"]
    return outputs(x, theta + d, bent) - outputs(x, theta, bent)


@pytest.mark.parametrize("seed", range(3))
def test_small_natural_steps_do_not_depend_on_the_parametrization(seed):
    """The relative difference shrinks linearly with the step; that of the plain gradient does not."""
    start = matrix(4, seed=seed)

    def difference(rate, kind="natural"):
        one, other = (moved(start, rate, bent, kind) for bent in (False, True))
        return float((one - other).norm() / one.norm())

    far = [difference(10.0**-k) for k in range(1, 6)]
    for larger, smaller in itertools.pairwise(far[1:]):
        assert larger / smaller == pytest.approx(10, rel=0.05)
    assert difference(1e-5, "plain") > 0.01


# --- L-BFGS and line searches -----------------------------------------------------------------------------


def bowl(n, seed):
    x = matrix(n, n, seed=seed)
    A, b = x @ x.mT / n + 0.5 * torch.eye(n, dtype=x.dtype), matrix(n, seed=seed + 1)

    def grad_at(params):
        w = params["w"]
        return {"w": A @ w - b}, w @ A @ w / 2 - b @ w

    return grad_at


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_with_an_exact_search_a_parabola_is_minimized_in_as_many_steps_as_it_has_axes(n):
    grad_at = bowl(n, seed=n)
    rule = rules.chain(rules.precondition_by_history(n), rules.search_line(1.0, 0.0, trials=4))
    params = {"w": torch.zeros(n, dtype=torch.float64)}
    state, sizes = rules.init(rule, params), []
    for _ in range(n):
        gradient, value = grad_at(params)
        sizes.append(float(gradient["w"].norm()))
        d, state, _ = rules.update(rule, gradient, state, params, None, Oracle(value, grad_at))
        params = {"w": params["w"] + d["w"]}
    assert float(grad_at(params)[0]["w"].norm()) < 1e-9 * sizes[0]
    assert all(size > 1e-9 * sizes[0] for size in sizes)


@given(
    seed=st.integers(0, 10**6),
    first=st.floats(1e-3, 1e3),
    curvature=st.floats(0.05, 0.95),
    steep=st.floats(0.1, 20.0),
)
@settings(max_examples=80, deadline=None)
def test_a_search_ends_where_the_conditions_hold_or_stays(seed, first, curvature, steep):
    """Of a bumpy function: both conditions at what strong_wolfe gives, the first one at what backtracking gives."""
    w, c = matrix(4, seed=seed), matrix(4, seed=seed + 1)

    def value_at(p):
        return (p["w"] ** 2).sum() + (steep * p["w"] + c).sin().sum()

    grad_at = torch.func.grad_and_value(value_at)
    gradient, value = grad_at({"w": w})
    for search in ("strong_wolfe", "backtracking"):
        rule = rules.search_line(first, curvature, search=search, trials=25)
        d, _, told = rules.update(
            rule, gradient, rules.init(rule, {"w": w}), {"w": w}, None, Oracle(value, grad_at)
        )
        there, after = grad_at({"w": w + d["w"]})
        slope, its_slope, t = -(gradient["w"] ** 2).sum(), -(gradient["w"] * there["w"]).sum(), told["length"]
        assert bool(t >= 0)
        assert bool(after <= value + 1e-4 * t * slope + 1e-12)
        if search == "strong_wolfe" and t > 0:
            assert bool(its_slope.abs() <= -curvature * slope + 1e-12)


def test_a_search_that_finds_nothing_stays_where_it_is():
    uphill = Oracle(torch.tensor(1.0), lambda params: ({"w": torch.ones(2)}, torch.tensor(2.0)))
    for search in ("strong_wolfe", "backtracking"):
        d = step(rules.search_line(1.0, 0.9, search=search), {"w": torch.ones(2)}, oracle=uphill)
        assert d["w"].tolist() == [0.0, 0.0]


# --- selecting --------------------------------------------------------------------------------------------


def test_embeddings_heads_and_vectors_are_not_hidden_matrices():
    names = [
        "wte.weight", "wpe.weight", "transformer.h.0.attn.c_attn.weight", "model.embed_tokens.weight", "lm_head.weight",
        "classifier.weight", "tok_embeddings.weight", "blocks.0.mlp.fc.weight", "score.weight",
    ]  # fmt: skip
    params = {name: torch.ones(2, 2) for name in names} | {"blocks.0.mlp.fc.bias": torch.ones(2)}
    assert hidden_matrices(params) == [
        "transformer.h.0.attn.c_attn.weight", "blocks.0.mlp.fc.weight", "score.weight",
    ]  # fmt: skip


def test_layers_are_weights_with_the_biases_that_fit():
    params = {
        "a.weight": torch.ones(2, 3), "a.bias": torch.ones(2), "norm.weight": torch.ones(3), "norm.bias": torch.ones(3),
        "conv.weight": torch.ones(4, 2, 3, 3), "embed.weight": torch.ones(9, 2), "attend.in_proj_weight": torch.ones(6, 2),
        "attend.in_proj_bias": torch.ones(6),
    }  # fmt: skip
    assert pairs(params) == {
        "a.weight": "a.bias", "conv.weight": None, "attend.in_proj_weight": "attend.in_proj_bias",
    }  # fmt: skip
    assert layers(params) == [
        "a.weight", "a.bias", "conv.weight", "attend.in_proj_weight", "attend.in_proj_bias"
    ]  # fmt: skip


def test_the_rest_gets_the_other_rule_and_views_are_joined():
    rule = rules.select("matrices", rules.average(rules.sgd(lr=1.0), decay=0.5), otherwise=rules.sgd(lr=0.5))
    params = {"m": torch.ones(1, 1), "v": torch.ones(1)}
    d, state, _ = rules.update(rule, params, rules.init(rule, params), params)
    assert (d["m"].item(), d["v"].item()) == (-1.0, -0.5)
    after = {name: p + d[name] for name, p in params.items()}
    seen = rules.view(rule, after, state)
    assert (seen["m"].item(), seen["v"].item()) == (0.5, 0.5)


def test_a_model_of_vectors_trains_by_adamw():
    tree = {"w": torch.tensor([1.0, -2.0])}
    adam = rules.adamw(3e-4, 0.9, 0.95, 1e-10, 0.01)
    torch.testing.assert_close(step(rules.muon(), tree), step(adam, tree))


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "said"), [
    (lambda: rules.muon(scale="originl"), "there is no such scale; did you mean 'original'?"),
    (lambda: rules.kfac(fisher="true"), r"there is no such fisher; known: empirical, exact, sampled"),
    (lambda: rules.shampoo(block_size=0), r"block_size is a whole number of at least 1; got 0"),
    (lambda: rules.orthogonalize(1e-7, coefficients=(1.0, 2.0)), r"coefficients are three numbers, as in"),
    (lambda: rules.select("matrix", rules.sgd(), rules.sgd()), "there is no such which; did you mean 'matrices'?"),
    (lambda: rules.sam(rules.sgd(), adaptive="yes"), "there is no such adaptive; known: False, True"),
])  # fmt: skip
def test_an_option_that_there_is_not_is_refused(make, said):
    with pytest.raises(BadValue, match=said.replace("?", r"\?")):
        make()


def test_sam_takes_no_step_of_another_rule():
    with pytest.raises(BadRule, match="takes a gradient of its own, so no step may come in"):
        rules.chain(rules.descend(0.1), rules.sam(rules.sgd()))


@pytest.mark.parametrize("rule", [rules.natural_gradient(), rules.sam(rules.sgd())])
def test_a_rule_that_asks_nobody_is_refused(rule):
    with pytest.raises(BadRule, match=r"needs \w+ beside the gradient, and nobody gives it here"):
        step(rule, {"w": torch.ones(2, 2)})


def test_asam_does_not_depend_on_the_scale_of_a_weight_but_for_its_summand():
    """Of large weights: f(w) and f(w / 8), from 8 times the weights, are seen at the same place."""
    seen = []

    def looking(scale):
        def grad_at(params):
            seen.append(params["w"] / scale)
            return {"w": torch.ones(3) / scale}, torch.tensor(0.0)

        return Oracle(torch.tensor(0.0), grad_at)

    w, g = 1e6 * matrix(3), matrix(3, seed=1)
    for scale in (1.0, 8.0):
        step(
            rules.sam(rules.sgd(), rho=0.1, adaptive=True), {"w": g / scale}, {"w": w * scale}, looking(scale)
        )
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-6, atol=0)


def test_the_twins_of_parts_are_dense():
    """The Newton–Schulz steps of the twin are those of the rule, written out with other products."""
    g = matrix(4, 3)
    np.testing.assert_allclose(
        orthogonal(g).numpy(), reference.twin("muon").__globals__["newton_schulz"](g.numpy())
    )
