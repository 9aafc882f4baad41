"""Losses beyond the first three: torch's and scikit-learn's numbers where they have them, closed forms where not."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fallline import losses
from fallline.errors import BadTask, BadValue
from fallline.specs import Loss, axis

from .test_torch import K, N, T, both, numbers


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def labels(classes=K, *shape):
    return torch.randint(classes, shape or (N,), generator=torch.Generator().manual_seed(1))


# --- against torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.1, 1.0, 7.0])
def test_huber(delta):
    def twin(prediction, target):
        return K * F.huber_loss(prediction, target, delta=delta)

    close(*both(losses.huber(delta=delta), twin, numbers(N, K), numbers(N, K, seed=1)))


@pytest.mark.parametrize("shape", [(N, K), (N, K, T)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_and_shares_of_classes(shape, smoothing):
    loss = losses.cross_entropy(smoothing=smoothing)
    for target in (labels(K, N, *shape[2:]), numbers(*shape, seed=2).softmax(1)):

        def twin(prediction, target):
            return F.cross_entropy(prediction, target, label_smoothing=smoothing)

        close(*both(loss, twin, numbers(*shape), target))


def test_shares_and_one_hot_targets():
    target = numbers(N, K, seed=2).softmax(1)
    close(*both(losses.cross_entropy, F.cross_entropy, numbers(N, K), target))
    hot = F.one_hot(labels(), K).double()
    close(losses.cross_entropy(numbers(N, K), hot), losses.cross_entropy(numbers(N, K), labels()))


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, K)])
@pytest.mark.parametrize("positive", [0.3, 1.0, 5.0])
def test_binary_cross_entropy(shape, positive):
    target = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def twin(prediction, target):
        return F.binary_cross_entropy_with_logits(
            prediction, target, pos_weight=torch.tensor(positive, dtype=torch.float64)
        )

    close(*both(losses.binary_cross_entropy(positive=positive), twin, 5 * numbers(*shape), target))
    far = torch.tensor([1e4, -1e4, 0.0, 800.0], dtype=torch.float64)
    close(
        *both(
            losses.binary_cross_entropy,
            F.binary_cross_entropy_with_logits,
            far,
            torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64),
        )
    )


def test_truths_of_every_type_and_without_their_last_axis():
    z, truth = numbers(N, 1), labels(2)
    expected = losses.binary_cross_entropy(z, truth.double().reshape(-1, 1))
    for target in (truth, truth.bool(), truth.to(torch.uint8), truth.float(), truth.reshape(-1, 1)):
        close(losses.binary_cross_entropy(z, target), expected)


def test_focal_without_focus_is_the_cross_entropy_and_yes_or_no_are_two_classes():
    z = numbers(N, K)
    close(*both(losses.focal(gamma=0.0), F.cross_entropy, z, labels()))
    truth = labels(2)
    two = torch.stack([torch.zeros(N, dtype=torch.float64), numbers(N)], 1)
    close(losses.focal(numbers(N), truth.double()), losses.focal(two, truth))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_finite_where_the_answer_is_certain(gamma):
    z = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, 1e4]], requires_grad=True)
    value = losses.focal(gamma=gamma)(z, torch.tensor([0, 0]))
    value.backward()
    assert value.isfinite()
    assert z.grad.isfinite().all()


# --- against scikit-learn ---------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_quantile(level):
    f, y = numbers(N), numbers(N, seed=1)
    expected = metrics.mean_pinball_loss(y.numpy(), f.numpy(), alpha=level)
    assert float(losses.quantile(level=level)(f, y)) == pytest.approx(expected, rel=1e-12)


def test_cosine():
    f, y = numbers(N, K), numbers(N, K, seed=1)
    expected = metrics.pairwise.paired_cosine_distances(f.numpy(), y.numpy()).mean()
    assert float(losses.cosine(f, y)) == pytest.approx(expected, rel=1e-12)
    assert float(losses.cosine(1e200 * f, 1e-200 * y)) == pytest.approx(expected, rel=1e-12)


def test_hinge():
    f, truth = numbers(N), labels(2)
    expected = metrics.hinge_loss(truth.numpy(), f.numpy())
    for target in (truth, 2 * truth - 1, truth.double()):
        assert float(losses.hinge(f, target)) == pytest.approx(expected, rel=1e-12)
    z, y = numbers(N, K), labels()
    expected = metrics.hinge_loss(y.numpy(), z.numpy(), labels=range(K))
    assert float(losses.hinge(z, y)) == pytest.approx(expected, rel=1e-12)


# --- closed forms -----------------------------------------------------------------------------------------


def minimizer(loss, y):
    """The constant that a loss is smallest at, by ternary search: all losses here are convex in it."""
    low, high = float(y.min()), float(y.max())
    at = lambda c: float(loss(torch.full_like(y, c), y))  # noqa: E731
    for _ in range(200):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if at(left) <= at(right) else (left, high)
    return (low + high) / 2


def test_what_each_loss_finds():
    y = numbers(101) ** 3
    assert minimizer(losses.mse, y) == pytest.approx(float(y.mean()), abs=1e-6)
    assert minimizer(losses.mae, y) == pytest.approx(float(y.median()), abs=1e-6)
    assert minimizer(losses.quantile(level=0.903), y) == pytest.approx(float(y.sort().values[91]), abs=1e-6)


@given(st.floats(1e-6, 1e6))
def test_cosine_sees_no_length_and_its_gradient_is_orthogonal(scale):
    f = numbers(N, K).requires_grad_()
    value = losses.cosine(f, numbers(N, K, seed=1))
    close(losses.cosine(scale * f, numbers(N, K, seed=1)), value)
    (slope,) = torch.autograd.grad(value, f)
    assert (slope * f).sum(1).abs().max() < 1e-14


def test_a_vector_of_zeros_has_no_direction():
    f = torch.zeros(2, 2, requires_grad=True)
    y = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    each = losses.examples(losses.cosine, {"prediction": f, "target": y})
    assert each.tolist() == [1.0, 1.0]
    (slope,) = torch.autograd.grad(each.sum(), f)
    torch.testing.assert_close(slope, torch.tensor([[-0.6, -0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_softmax_twice_has_a_floor(classes):
    certain = F.one_hot(torch.tensor([0]), classes).double()
    with pytest.raises(BadTask, match="it would be applied twice: take the softmax out of the model"):
        losses.cross_entropy(certain, torch.tensor([0]))
    found = losses.value(losses.cross_entropy, {"prediction": certain, "target": torch.tensor([0])})[0]
    assert float(found) == pytest.approx(math.log(math.e + classes - 1) - 1, rel=1e-12)


def test_expected_cost_is_cheapest_where_the_threshold_of_bayes_says_so():
    costs = {"false_positive": 1.0, "false_negative": 4.0}
    assert losses.bayes_threshold(**costs) == 0.2
    assert losses.bayes_threshold(0.0, 1.0) == 0.0
    loss = losses.expected_cost(**costs)
    sure = {True: torch.tensor([60.0]), False: torch.tensor([-60.0])}
    for p in (0.1, 0.19, 0.21, 0.9):
        paid = {yes: float(loss(z, torch.tensor([p]))) for yes, z in sure.items()}
        assert (paid[True] < paid[False]) == (p > 0.2)


def test_a_matrix_of_costs_is_paid_by_probability():
    C = [[0, 2, 3], [5, 0, 1], [1, 1, 0]]
    z, y = numbers(N, 3), labels(3)
    paid = (torch.tensor(C, dtype=torch.float64)[y] * z.softmax(1)).sum(1).mean()
    close(losses.costs(C)(z, y), paid)
    wrong = 1 - z.softmax(1).gather(1, y[:, None]).mean()
    close(losses.cost_matrix(z, y), wrong)
    two = losses.costs([[0, 1], [4, 0]])
    logits = numbers(N)
    both_ = torch.stack([torch.zeros(N, dtype=torch.float64), logits], 1)
    close(two(both_, labels(2)), losses.expected_cost(false_negative=4.0)(logits, labels(2)))


def test_the_confidence_penalty_is_lowest_at_equal_shares():
    flat = torch.zeros(3, K, requires_grad=True)
    value = losses.confidence_penalty(flat, labels(K, 3))
    assert float(value.detach()) == pytest.approx(-math.log(K))
    (slope,) = torch.autograd.grad(value, flat)
    assert slope.abs().max() < 1e-7
    both_ = losses.cross_entropy + 0.1 * losses.confidence_penalty
    z = numbers(N, K)
    entropy = -(z.softmax(1) * z.log_softmax(1)).sum(1).mean()
    close(both_(z, labels()), F.cross_entropy(z, labels()) - 0.1 * entropy)


# --- as values --------------------------------------------------------------------------------------------


def test_losses_add_scale_and_sum():
    terms = [losses.cross_entropy, 0.1 * losses.confidence_penalty]
    assert sum(terms) == terms[0] + terms[1]
    assert losses.cross_entropy(smoothing=0.2) == Loss("smoothed_cross_entropy", {"smoothing": 0.2})
    tuned = axis(0.01, 0.1) * losses.confidence_penalty + losses.cross_entropy
    assert "axis(0.01, 0.1)" in repr(tuned)
    for bad in (math.nan, math.inf, "2", None, True):
        with pytest.raises(BadValue, match=r"^a loss scales by a finite number, a schedule or an axis, got "):
            losses.mse * bad


# --- what is refused --------------------------------------------------------------------------------------

REFUSED = [
    (losses.cosine, numbers(N), numbers(N), r"^cosine compares directions, which need two outputs at least: the model gives \[11\]"),
    (losses.cross_entropy, numbers(N, K), numbers(N, K), r"^targets of cross_entropy that are shares of classes are at least 0 and sum to 1"),
    (losses.cross_entropy, numbers(N, K).softmax(1), labels(), r"^cross_entropy is given probabilities: the outputs are at least 0"),
    (losses.focal, numbers(N, K).softmax(1), labels(), r"^focal is given probabilities"),
    (losses.hinge, numbers(N, K).softmax(1), labels(), r"^hinge is given probabilities"),
    (losses.binary_cross_entropy, numbers(N, K), labels(), r"^binary_cross_entropy needs a target of the outputs' shape \[11, 4\], or without"),
    (losses.binary_cross_entropy, numbers(N), 2 * labels(2), r"needs targets from 0 \(no\) to 1 \(yes\), they go from 0 to 2$"),
    (losses.expected_cost, numbers(N), torch.full((N,), torch.nan), r"^expected_cost needs targets from 0 \(no\) to 1 \(yes\), they go from nan"),
    (losses.hinge, numbers(N), labels(3), r"^hinge needs targets 0 and 1, or −1 and 1, for outputs of their shape; they have 0, 1, 2$"),
    (losses.confidence_penalty, numbers(N), labels(), r"^confidence_penalty needs logits \[examples, classes\], the model gives \[11\]$"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "prediction", "target", "sentence"), REFUSED)
def test_what_does_not_fit_is_refused(loss, prediction, target, sentence):
    with pytest.raises(BadTask, match=sentence):
        loss(prediction, target)


def test_costs_that_are_none_are_refused():
    with pytest.raises(
        BadValue,
        match=r"^costs needs a square matrix, a row for each class that is true; got rows of \[2, 1\]$",
    ):
        losses.costs([[0, 1], [1]])
    with pytest.raises(BadValue, match=r"costs\(cost_0_1=-1\)"):
        losses.costs([[0, -1], [1, 0]])
    with pytest.raises(BadValue, match=r"^bayes_threshold: both errors are free"):
        losses.bayes_threshold(0.0, 0.0)
    with pytest.raises(BadValue, match=r"bayes_threshold\(false_negative=-1\)"):
        losses.bayes_threshold(1.0, -1.0)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_logits_of_a_net_that_was_not_trained_are_not_taken_for_probabilities(seed, classes):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, classes))
    losses.cross_entropy(net(torch.randn(4, 3)).detach(), torch.zeros(4, dtype=torch.int64))
