"""The slow twins, and the formulas that they and the rules share with the books."""

import numpy as np
import pytest
import torch

from fallline import rules
from fallline.errors import NotFound
from fallline.rules import reference
from fallline.rules.reference.numbers import at, ratio
from fallline.schedules import inverse_time


@pytest.fixture
def wind():
    random = np.random.default_rng(0)
    return [[random.normal(size=3)] for _ in range(20)]


def path(twin, wind, **numbers):
    return [w[0] for w in twin([np.zeros(3)], wind, **numbers)]


def test_numbers_of_a_twin():
    assert at(2, 5) == 2.0
    assert at([1.0, 3.0], 1) == 3.0
    assert at(inverse_time(1.0).at, 3) == 0.25
    assert ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 0.0])).tolist() == [0.5, 0.0, 0.0]


def test_a_kind_without_a_twin():
    with pytest.raises(
        NotFound, match=r"adma has no slow twin: write rules/reference/adma.py from its source"
    ):
        reference.twin("adma")


def test_adam_is_the_slides_formula_while_beta_is_constant(wind):
    m = v = w = np.zeros(3)
    for t, ((g,), twin) in enumerate(zip(wind, path(reference.twin("adam"), wind, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8), strict=True)):  # fmt: skip
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        w = w - 0.1 * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.99 ** (t + 1))) + 1e-8)
        np.testing.assert_allclose(twin, w, rtol=1e-12)


def test_corrected_moments_are_averages_also_when_beta_changes():
    """With one and the same gradient, m̂ = g and v̂ = g² at each step: the step is lr, whatever β does."""
    rule = rules.chain(rules.scale_by_adam(0.9, 0.99, 0.0), rules.descend(1.0))
    params = {"w": torch.zeros(1, dtype=torch.float64)}
    state = rules.init(rule, params)
    for beta1, beta2 in ((0.9, 0.99), (0.5, 0.999), (0.0, 0.3), (0.99, 0.9)):
        h = {**rules.numbers(rule), "0.beta1": beta1, "0.beta2": beta2}
        step, state, _ = rules.update(
            rule, {"w": torch.full((1,), 3.0, dtype=torch.float64)}, state, params, h
        )
        assert step["w"].item() == pytest.approx(-1.0, rel=1e-12)


def test_nesterov_looks_ahead_from_theta(wind):
    """w = θ + β · v is where the gradient is taken: v ← β · v − lr · g(w), θ ← θ + v."""
    theta = v = np.zeros(3)
    for (g,), twin in zip(wind, path(reference.twin("nesterov"), wind, lr=0.1, beta=0.9), strict=True):
        v = 0.9 * v - 0.1 * g
        theta = theta + v
        np.testing.assert_allclose(twin, theta + 0.9 * v, rtol=1e-12)


def test_limits():
    """Rules that must agree at the edge of their domains."""
    random = np.random.default_rng(1)
    wind = [[random.normal(size=3)] for _ in range(10)]
    sgd = path(reference.twin("sgd"), wind, lr=0.1)
    for twin in ("momentum", "nesterov"):
        np.testing.assert_allclose(path(reference.twin(twin), wind, lr=0.1, beta=0.0), sgd, rtol=1e-12)
    adam = path(reference.twin("adam"), wind, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    adamw = path(reference.twin("adamw"), wind, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.0)
    np.testing.assert_allclose(adamw, adam, rtol=1e-12)
    signs = path(reference.twin("rmsprop"), wind, lr=0.1, gamma=0.0, eps=0.0)
    np.testing.assert_allclose(signs, -0.1 * np.cumsum([np.sign(g[0]) for g in wind], axis=0), rtol=1e-12)
    mean = [w[0] for w in reference.twin("average")([[np.zeros(3)], *[[w] for w in sgd]], decay=0.0)]
    np.testing.assert_allclose(mean, sgd)


def test_follow_reads_a_rule():
    wind = [[np.array([3.0, 4.0])], [np.array([0.3, 0.4])]]
    rule = rules.average(rules.chain(rules.clip_norm(1.0), rules.sgd(lr=inverse_time(1.0))), decay=0.5)
    first, second = reference.follow(rule, [np.zeros(2)], wind)
    np.testing.assert_allclose(first[0], [-0.3, -0.4])
    np.testing.assert_allclose(second[0], [-0.15 - 0.375, -0.2 - 0.5])


def test_squares_that_underflow_make_no_larger_step_than_their_neighbors():
    for rule in (rules.adagrad(eps=0.0), rules.rmsprop(eps=0.0), rules.adam(eps=0.0)):
        gradient = {"w": torch.tensor([1e-30, 0.0, 1.0])}
        step, _, _ = rules.update(rule, gradient, rules.init(rule, gradient), gradient)
        underflowing, zero, usual = step["w"].tolist()
        assert usual < 0
        assert usual <= underflowing <= 0
        assert zero == 0
