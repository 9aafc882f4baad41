"""Losses that keep what an older model knows: near its weights, by importance, near its outputs."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fallline as fl
from fallline import losses, specs
from fallline.errors import BadTask, BadValue, NotFound
from fallline.losses import held

from .linear import EXAMPLES, INPUTS, Line, data, moments, task, trained

OLD = {"w": torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)}
SETTINGS = (0.1, 1.0, 10.0)


# --- near the old weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["traced", "alone"])
def test_l2_sp_ends_at_its_closed_form_in_a_fleet(executor):
    A, b = moments(*data())
    made = task(losses.l2_sp(old=OLD), *data())
    found = trained(made, [{"1.alpha": alpha} for alpha in SETTINGS], executor=executor)
    for alpha, w in zip(SETTINGS, found, strict=True):
        expected = np.linalg.solve(2 * A + alpha * np.eye(INPUTS), 2 * b + alpha * OLD["w"].numpy())
        np.testing.assert_allclose(w, expected, rtol=1e-9, atol=1e-9)


def test_new_weights_decay_and_are_not_pulled():
    body, head = nn.Linear(2, 2), nn.Linear(2, 1)
    params = {f"0.{k}": p for k, p in body.named_parameters()} | {
        f"1.{k}": p for k, p in head.named_parameters()
    }
    old = {name: torch.full_like(p, 0.5) for name, p in params.items() if name.startswith("0.")}
    total, _ = losses.value(losses.l2_sp(old=old, alpha=0.3, beta=0.7), {"params": params})
    total.backward()
    for name, p in params.items():
        torch.testing.assert_close(p.grad, 0.3 * (p - 0.5) if name in old else 0.7 * p)


def test_a_model_stands_for_its_weights_which_are_held_once_and_do_not_change():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    loss = losses.l2_sp(old=model)
    count = len(held._things)
    assert loss == losses.l2_sp(old={name: p.clone() for name, p in model.named_parameters()})
    assert len(held._things) == count
    before = copy.deepcopy(dict(model.named_parameters()))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert loss != losses.l2_sp(old=model)
    assert losses.value(loss, {"params": before})[0] == 0.0


def test_what_is_held_goes_through_json_and_says_so_when_it_is_gone(monkeypatch):
    loss = 0.5 * losses.l2_sp(old=OLD, alpha=2.0)
    text = json.dumps(specs.plain(loss))
    assert specs.rebuild(json.loads(text)) == loss
    assert losses.value(specs.rebuild(json.loads(text)), {"params": OLD})[0] == 0.0
    monkeypatch.setattr(held, "_things", {})
    with pytest.raises(
        NotFound,
        match=r"^the loss l2_sp has old='weights [0-9a-f]{12}', which this program does not hold: make the",
    ):
        losses.value(specs.rebuild(json.loads(text)), {"params": OLD})
    losses.l2_sp(old=OLD)
    assert losses.value(specs.rebuild(json.loads(text)), {"params": OLD})[0] == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_old_weights_of_another_type(dtype):
    loss = losses.l2_sp(old={"w": OLD["w"].to(dtype), "scale": torch.ones((), dtype=dtype)}, alpha=1.0)
    given = {"params": {"w": OLD["w"] + 1, "scale": torch.zeros((), dtype=torch.float64)}}
    total, _ = losses.value(loss, given)
    assert total == 2.0
    assert total.dtype == torch.float64


# --- by importance ----------------------------------------------------------------------------------------


def test_elastic_weights_are_those_of_both_tasks_where_inputs_do_not_correlate():
    """Then the Fisher information is diagonal, and the penalty is the old task's loss."""
    X_old = np.linalg.qr(data(1)[0])[0] * np.array([3.0, 1.0, 0.2])
    y_old = data(1)[1]
    X, y = data()
    A_old, b_old = moments(X_old, y_old)
    w_old = np.linalg.solve(A_old, b_old)
    model = Line().double()
    model.w.data = torch.from_numpy(w_old)
    column = nn.Linear(INPUTS, 1, bias=False).double()
    column.weight.data = model.w.data.unsqueeze(0)
    fisher = losses.fisher_diagonal(column, torch.from_numpy(X_old), likelihood="normal")
    rest = 2.0 * losses.elastic(old=model, fisher={"w": fisher["weight"].squeeze(0)})
    (w,) = trained(task(rest, X, y), [{}])
    A, b = moments(X, y)
    np.testing.assert_allclose(w, np.linalg.solve(A + A_old, b + b_old), rtol=1e-9, atol=1e-9)


def test_several_old_tasks_add():
    A, b = moments(*data())
    tasks = [
        (OLD["w"], torch.tensor([1.0, 0.0, 5.0]).double()),
        (-OLD["w"], torch.tensor([2.0, 3.0, 0.0]).double()),
    ]
    rest = sum(losses.elastic(old={"w": w}, fisher={"w": f}) for w, f in tasks)
    strengths = (0.1, 1.0, 4.0)
    found = trained(task(1.0 * rest, *data()), [{"1.weight": s} for s in strengths])
    for strength, w in zip(strengths, found, strict=True):
        left = 2 * A + strength * sum(np.diag(f) for _, f in tasks)
        right = 2 * b + strength * sum((f * w_old).numpy() for w_old, f in tasks)
        np.testing.assert_allclose(w, np.linalg.solve(left, right), rtol=1e-9, atol=1e-9)


# --- near the old outputs ---------------------------------------------------------------------------------

CLASSES = 3


def logits(seed):
    return torch.randn(EXAMPLES, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def old_model():
    model = nn.Sequential(
        nn.Linear(INPUTS, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, CLASSES)
    )
    for i, p in enumerate(model.parameters()):
        p.data = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    return model


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_torchs_kl_of_softened_outputs(temperature):
    model, inputs = old_model(), torch.from_numpy(data()[0])
    loss = losses.distillation(old=model, temperature=temperature)
    assert model.training
    new = logits(3).requires_grad_()
    total = loss(new, torch.zeros(EXAMPLES), inputs=inputs)
    old = copy.deepcopy(model).double().eval()(inputs)
    expected = temperature**2 * F.kl_div(
        (new / temperature).log_softmax(1),
        (old / temperature).log_softmax(1),
        log_target=True,
        reduction="batchmean",
    )
    torch.testing.assert_close(total, expected)
    slopes = [torch.autograd.grad(t, new)[0] for t in (total, expected)]
    torch.testing.assert_close(*slopes)


def test_at_high_temperature_distillation_is_the_distance_of_centered_logits():
    model, inputs, new = old_model(), torch.from_numpy(data()[0]), logits(3)
    total = losses.distillation(old=model, temperature=1e5)(new, torch.zeros(EXAMPLES), inputs=inputs)
    old = model.double().eval()(inputs)
    gap = (new - new.mean(1, keepdim=True)) - (old - old.mean(1, keepdim=True))
    torch.testing.assert_close(total, (gap**2).sum(1).mean() / (2 * CLASSES), rtol=1e-3, atol=0)


def test_distillation_in_a_fleet_is_as_alone_and_keeps_the_old_outputs():
    X, _ = data()
    old = old_model()
    labels = np.arange(EXAMPLES) % CLASSES
    loss = losses.cross_entropy + 1.0 * losses.distillation(old=old)
    made = fl.Task.supervised(
        lambda: nn.Linear(INPUTS, CLASSES), (X, labels), (X, labels), (X, labels), loss=loss, batch=EXAMPLES
    )
    runs = [
        fl.Run(fl.rules.sgd(lr=0.1), loss={"1.weight": w, "1.0.temperature": t})
        for w, t in ((0.0, 1.0), (1.0, 1.0), (30.0, 2.0))
    ]
    options = {"steps": 200, "weights": True, "workers": 0}
    found = fl.fleet.run(made, runs, executor="traced", **options)
    apart = []
    for run, record in zip(runs, found, strict=True):
        (alone,) = fl.fleet.run(made, [run], executor="traced", **options)
        (plain,) = fl.fleet.run(made, [run], executor="alone", **options)
        for name, p in record.weights.items():
            np.testing.assert_array_equal(alone.weights[name], p)
            np.testing.assert_allclose(plain.weights[name], p, rtol=1e-3, atol=1e-4)
        new = torch.from_numpy(X).float() @ torch.from_numpy(record.weights["weight"]).T + torch.from_numpy(
            record.weights["bias"]
        )
        apart.append(
            float(
                losses.distillation(old=old)(new, torch.zeros(EXAMPLES), inputs=torch.from_numpy(X).float())
            )
        )
    assert apart[0] > apart[1] > apart[2]


class Pair(nn.Module):
    def forward(self, left, right):
        return left + right


def test_an_old_model_of_several_inputs():
    left, right = logits(1), logits(2)
    loss = losses.distillation(old=Pair())
    for inputs in ((left, right), {"right": right, "left": left}):
        assert loss(left + right, torch.zeros(EXAMPLES), inputs=inputs).abs() < 1e-12


# --- what is refused --------------------------------------------------------------------------------------

W, F_ = {"w": torch.ones(3)}, {"w": torch.ones(3)}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: losses.l2_sp(old=[1.0]), r"^l2_sp\(old=…\) takes tensors by the names of parameters, or the model that has"),
        (lambda: losses.l2_sp(old={"w": 1.0}), r"got a dict$"),
        (lambda: losses.l2_sp(old={}), r"^l2_sp\(old=…\) is empty: without a tensor there is nothing to hold on to"),
        (lambda: losses.l2_sp(old={"w": torch.ones(2, dtype=torch.int64)}), r"^l2_sp\(old=…\): w is \[2\] of torch.int64, and must "
         "be finite floating-point numbers"),
        (lambda: losses.l2_sp(old={"w": torch.tensor([math.nan])}), r"w is \[1\] of torch.float32, and must be finite"),
        (lambda: losses.distillation(old=OLD), r"^distillation\(old=…\) takes a model, an nn.Module; got a dict"),
        (lambda: losses.l2_sp(torch.ones(1), torch.ones(1), params=W), r"^the loss l2_sp lacks its old: give it, as in l2_sp\(old=…\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused(make, sentence):
    with pytest.raises(BadValue, match=sentence):
        make()


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (losses.l2_sp(old={"v": torch.ones(3)}), r"^the old weights have v, but the model trains w: pass those that both have"),
        (losses.l2_sp(old={"w": torch.ones(2)}), r"^the old weights have w of shape \[2\], and the model's is \[3\]: leave w out"),
        (losses.elastic(old=W, fisher={"v": torch.ones(3)}), r"^the Fisher information and the old weights differ in v, w: compute"),
        (losses.elastic(old=W, fisher={"w": torch.ones(2)}), r"^the Fisher information of w is \[2\] for weights \[3\]: it needs one"),
        (losses.elastic(old=W, fisher={"w": -torch.ones(3)}), r"^the Fisher information of w has numbers below 0: it is a mean"),
        (losses.distillation(old=nn.Linear(INPUTS, 3)), r"^distillation needs logits \[examples, classes\], the model gives \[4\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_refused_before_training(loss, sentence):
    with pytest.raises(BadTask, match=sentence):
        task(loss, *data())


@pytest.mark.parametrize(
    ("old", "sentence"),
    [
        (nn.Linear(INPUTS + 1, CLASSES), r"^the old model Linear does not take the task's inputs: mat1 and mat2"),
        (nn.Linear(INPUTS, CLASSES + 1), r"^the old model gives \[12, 4\] and the new one \[12, 3\]: distillation compares their"),
        (nn.LSTM(INPUTS, CLASSES), r"^the old model gives a tuple and the new one \[12, 3\]|does not take the task's inputs"),
    ],
)  # fmt: skip
def test_an_old_model_that_does_not_fit_is_refused(old, sentence):
    with pytest.raises(BadTask, match=sentence):
        losses.distillation(old=old)(
            logits(0).float(), torch.zeros(EXAMPLES), inputs=torch.zeros(EXAMPLES, INPUTS)
        )
