"""Constraints: the optimum that they lead to is the one in closed form, in a fleet too."""

import json

import numpy as np
import pytest
import torch

from fallline import losses, specs
from fallline.errors import BadTask, BadValue, NotFound
from fallline.losses import held, reference

from .linear import INPUTS, data, moments, task, trained

MUS = (1.0, 3.0, 10.0)


def sum_to_one(given):
    """Σ w − 1."""
    return given.params["w"].sum() - 1.0


def two_bounds(given):
    """w_0 ≤ −2 (which binds) and w_1 ≤ 50 (which does not)."""
    w = given.params["w"]
    return torch.stack([w[0] + 2.0, w[1] - 50.0])


def constrained(rows, values):
    """Weights and multipliers of min mse with rows · w = values, by the KKT equations."""
    A, b = moments(*data())
    n = len(rows)
    left = np.block([[2 * A, rows.T], [rows, np.zeros((n, n))]])
    found = np.linalg.solve(left, np.concatenate([2 * b, values]))
    return found[:INPUTS], found[INPUTS:]


def descended(loss, steps=1200, lr=0.05):
    """Weights and state after plain descent by hand."""
    X, y = (torch.from_numpy(t) for t in data())
    w, state = torch.zeros(INPUTS, dtype=torch.float64), losses.start(loss)
    for _ in range(steps):

        def total(w, state=state):
            given = {"prediction": X @ w, "target": y, "params": {"w": w}}
            return losses.value(loss, given, state=state)

        slope, state = torch.func.grad(total, has_aux=True)(w)
        w = w - lr * slope
    return w.numpy(), state


def test_a_penalty_ends_at_its_closed_form_and_breaks_the_constraint_by_its_price_over_mu():
    A, b = moments(*data())
    ones = np.ones(INPUTS)
    rest = losses.quadratic_penalty(constraint=sum_to_one, equality=True, needs=("params",))
    for mu, w in zip(MUS, trained(task(rest, *data()), [{"1.mu": mu} for mu in MUS]), strict=True):
        expected = np.linalg.solve(2 * A + mu * np.outer(ones, ones), 2 * b + mu * ones)
        np.testing.assert_allclose(w, expected, rtol=1e-9, atol=1e-9)
        price = (2 * b - 2 * A @ w)[0]  # −∂mse/∂w_i, which is λ for each i
        np.testing.assert_allclose(w.sum() - 1, price / mu, rtol=1e-6)


@pytest.mark.parametrize("executor", ["auto", "traced", "alone"])
def test_an_equality_by_augmented_lagrangian_holds_at_any_mu_in_a_fleet(executor):
    expected, _ = constrained(np.ones((1, INPUTS)), [1.0])
    rest = losses.augmented_lagrangian(constraint=sum_to_one, equality=True, needs=("params",))
    for w in trained(task(rest, *data()), [{"1.mu": mu, "1.every": 20} for mu in MUS], executor=executor):
        np.testing.assert_allclose(w, expected, rtol=1e-8, atol=1e-8)


def test_an_inequality_binds_or_leaves_alone():
    row = np.array([[1.0, 0.0, 0.0]])
    expected, (price,) = constrained(row, [-2.0])
    assert price > 0  # the bound is in the way of the free optimum
    rest = losses.augmented_lagrangian(constraint=two_bounds, count=2, needs=("params",), every=20)
    (w,) = trained(task(rest, *data()), [{}])
    np.testing.assert_allclose(w, expected, rtol=1e-8, atol=1e-8)
    by_hand, state = descended(losses.mse + rest)
    np.testing.assert_allclose(by_hand, w, rtol=1e-10)
    np.testing.assert_allclose(state["1.multiplier"], [price, 0.0], rtol=1e-7, atol=1e-12)


def test_each_run_has_its_own_multipliers():
    """Before the end runs differ by their μ, and each is as it is alone."""
    rest = losses.augmented_lagrangian(constraint=sum_to_one, equality=True, needs=("params",), every=3)
    settings = [{"1.mu": mu, "1.every": 3.0 + i, "1.pace": 0.5} for i, mu in enumerate(MUS)]
    made = task(rest, *data())
    together = trained(made, settings, steps=25, executor="traced")
    for setting, w in zip(settings, together, strict=True):
        (alone,) = trained(made, [setting], steps=25, executor="traced")
        np.testing.assert_array_equal(alone, w)
        by_hand, _ = descended(losses.mse + rest(**{k[2:]: v for k, v in setting.items()}), steps=25)
        np.testing.assert_allclose(by_hand, w, rtol=1e-12)
    assert len({w.tobytes() for w in together}) == len(settings)


def test_multipliers_move_when_they_are_due():
    loss = losses.augmented_lagrangian(constraint=lambda g: g.prediction, every=3, mu=2.0, pace=0.5)
    given, state, seen = {"prediction": torch.tensor([4.0])}, losses.start(loss), []
    for _ in range(7):
        _, state = losses.value(loss, given, state=state)
        seen.append(float(state["multiplier"]))
    assert seen == [0, 0, 4, 4, 4, 8, 8]
    for _ in range(5):
        _, state = losses.value(loss, {"prediction": torch.tensor([-5.0])}, state=state)
    assert float(state["multiplier"]) == 0.0  # 8 − 5, and then not below 0


def test_with_a_multiplier_the_value_is_its_twins():
    for equality in (False, True):
        loss = losses.augmented_lagrangian(
            constraint=lambda g: g.prediction, count=4, equality=equality, mu=1.5
        )
        values = torch.tensor([-3.0, -0.1, 0.0, 2.0], dtype=torch.float64)
        multiplier = torch.tensor([1.0, 0.5, 0.0, 2.0], dtype=torch.float64)
        state = losses.start(loss) | {"multiplier": multiplier}
        found, _ = losses.value(loss, {"prediction": values}, state=state)
        twin = reference.twin("augmented_lagrangian")
        expected = twin(
            values.numpy(), lambda g: g["prediction"], equality, (), 4, 1.5, 1, 1, multiplier.numpy()
        )
        np.testing.assert_allclose(found, expected, rtol=1e-14)


# --- as plain data ----------------------------------------------------------------------------------------


def test_a_constraint_that_can_be_imported_is_named_so(monkeypatch):
    loss = losses.quadratic_penalty(constraint=sum_to_one, needs="params")
    assert loss.options["constraint"] == f"{__name__}:sum_to_one"
    assert "sum_to_one" in repr(loss)
    monkeypatch.setattr(held, "_things", {})
    again = specs.rebuild(json.loads(json.dumps(specs.plain(loss))))
    assert again == loss
    assert losses.needs(again) == {"prediction", "params"}
    given = {"prediction": torch.ones(1), "params": {"w": torch.ones(3)}}
    assert losses.value(again, given)[0] == 20.0


def test_lambdas_are_kept_and_told_apart():
    def bound(most):
        return losses.quadratic_penalty(constraint=lambda g: g.prediction.mean() - most, mu=2.0)

    assert bound(1.0) == bound(1.0)
    assert bound(1.0) != bound(2.0)
    assert bound(2.0)(torch.tensor([3.0]), torch.zeros(1)) == 1.0


def test_a_lambda_has_the_same_name_in_whatever_order_they_are_made(monkeypatch):
    def named(order):
        monkeypatch.setattr(held, "_things", {})
        made = {
            "mean": lambda: losses.quadratic_penalty(constraint=lambda g: g.prediction.mean()),
            "sum": lambda: losses.quadratic_penalty(constraint=lambda g: g.prediction.sum()),
            "within": lambda: losses.quadratic_penalty(constraint=lambda g, *, most=2.0: sum_to_one(g) - most),
            "nested": lambda: losses.quadratic_penalty(constraint=lambda g: max(x for x in g.prediction if x in {1, 2})),
        }  # fmt: skip
        return {name: repr(made[name]()) for name in order}

    order = ["mean", "sum", "within", "nested"]
    assert named(order) == named(order[::-1])
    assert len(set(named(order).values())) == len(order)


def test_one_code_over_two_tensors_is_two_constraints():
    made = [
        losses.quadratic_penalty(constraint=lambda g, t=t: (g.prediction - t).mean(), mu=2.0)
        for t in (torch.zeros(1), torch.ones(1))
    ]
    assert made[0] != made[1]
    assert [float(loss(torch.tensor([3.0]), torch.zeros(1))) for loss in made] == [9.0, 4.0]


class Mean:
    def __call__(self, given):
        return given.prediction.mean()


def test_a_callable_object_is_kept():
    loss = losses.quadratic_penalty(constraint=Mean(), mu=2.0)
    assert loss(torch.tensor([3.0]), torch.zeros(1)) == 9.0


def test_a_lambda_that_is_gone_is_told(monkeypatch):
    loss = losses.quadratic_penalty(constraint=lambda g: g.prediction.mean())
    monkeypatch.setattr(held, "_things", {})
    with pytest.raises(
        NotFound, match=r"which this program does not hold: make the loss again from it, as in"
    ):
        loss(torch.zeros(1), torch.zeros(1))


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [losses.quadratic_penalty, losses.augmented_lagrangian])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"constraint": 3}, r"\(constraint=…\) takes a function of what the loss is given, such as lambda given: "),
        ({"equality": 1}, r"\(equality=1\): equality must be True or False"),
        ({"count": 0}, r"\(count=0\): count must be a whole number of at least 1"),
        ({"count": True}, r"\(count=True\): count must be a whole number"),
        ({"needs": ("grup",)}, r"\(needs=…\): a constraint can need prediction, .*; did you mean 'group'"),
        ({"mu": 0.0}, r"\(mu=0\): mu is the weight of the squared violation and must be above 0"),
    ],
)  # fmt: skip
def test_settings_are_refused(kind, options, sentence):
    with pytest.raises(BadValue, match=sentence):
        kind(**options)


def test_a_constraint_that_was_left_out_is_named():
    with pytest.raises(
        BadValue, match="the loss quadratic_penalty lacks its constraint: give it, as in quadr"
    ):
        losses.quadratic_penalty(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize(
    ("constraint", "sentence"),
    [
        (lambda g: g.group.sum(), r"failed: AttributeError: .*; it is given prediction by attribute, and what else it uses must "
         r"stand in needs=\(…\)"),
        (lambda g: 1.0, r"the constraint <lambda> must give 1 floating-point number for a batch, as count=1 says; got a fl"),
        (lambda g: g.prediction, r"must give 1 floating-point number for a batch, as count=1 says; got \[[34]\] of tor"),
        (lambda g: g.prediction.sum().long(), r"got \[\] of torch\.int64"),
    ],
)  # fmt: skip
def test_constraints_that_give_something_else_are_refused(constraint, sentence):
    loss = losses.quadratic_penalty(constraint=constraint)
    with pytest.raises(BadTask, match=sentence):
        loss(torch.zeros(3), torch.zeros(3))
    with pytest.raises(BadTask, match=sentence):
        task(loss, *data())


def test_a_need_that_the_data_lack_is_named_before_training():
    loss = losses.quadratic_penalty(constraint=lambda g: g.group.double().mean(), needs=("group",))
    with pytest.raises(BadTask, match="the loss quadratic_penalty needs group, but the batch has"):
        task(loss, *data())
