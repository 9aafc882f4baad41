"""The usual task: what it is made of, and what it refuses, each with one sentence."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from fallline import layers, losses, registry, schedules, specs
from fallline.errors import BadTask, FalllineError, NotFound
from fallline.specs import Domain
from fallline.tasks import Metric, Task, Variables

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.arange(N) % 3
NUMBERS = X[:, :1] + 1.0


def classifier():
    return layers.mlp(3, 3)


def regressor():
    return layers.mlp(3, 1)


def of_classes(model=classifier, train=(X, Y), *rest, **options):
    return Task.supervised(model, train, *rest, **{"loss": losses.cross_entropy, **options})


def of_numbers(model=regressor, train=(X, NUMBERS), *rest, **options):
    return Task.supervised(model, train, *rest, **{"loss": losses.mse, **options})


# --- what it is made of -----------------------------------------------------------------------------------


def test_what_it_says_of_itself():
    found = of_classes(name="three")
    assert repr(found) == "Task('three', 36 + 12 + 12 examples, by accuracy)"
    assert of_classes().name == "Sequential"
    assert found.facts["parameters"] == 12
    assert found.facts["examples"] == {"train": 36, "validation": 12, "test": 12}
    assert found.metric == Metric("accuracy", "higher")
    assert of_numbers().metric == Metric("r2", "higher")
    assert found.comparable == "cross_entropy()"
    found.check()


def test_a_seed_is_the_initial_weights():
    found = of_classes()
    first, again, other = found.init(0), found.init(0), found.init(1)
    for name, p in first.params.items():
        assert torch.equal(p, again.params[name])
        assert not torch.equal(p, other.params[name])
        assert not p.requires_grad


def test_the_loss_is_the_models_loss():
    found = of_classes(dtype=torch.float64)
    params, buffers = found.init(0)
    model = classifier().double()
    model.load_state_dict(params)
    batch = found.parts["train"]
    value, after = found.loss(params, buffers, batch, {})
    torch.testing.assert_close(value, nn.functional.cross_entropy(model(batch["inputs"]), batch["target"]))
    assert after == {}
    each = found.score(params, buffers, batch, {})
    assert each["loss"].shape == each["score"].shape == (36,)
    torch.testing.assert_close(each["loss"].mean(), value)


def test_buffers_change_in_training_and_not_in_scoring():
    found = of_classes(lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    params, buffers = found.init(0)
    held = {name: t.clone() for name, t in buffers.items()}
    _, after = found.loss(params, buffers, found.parts["train"], {})
    assert after["1.num_batches_tracked"] == 1
    assert not torch.equal(after["1.running_mean"], buffers["1.running_mean"])
    found.score(params, after, found.parts["test"], {})
    assert all(torch.equal(held[name], t) for name, t in buffers.items())
    assert after["1.num_batches_tracked"] == 1
    found.check()


def test_frozen_parameters_are_not_trained():
    def half_frozen():
        model = layers.mlp(3, 5, 3)
        model[1].weight.requires_grad_(requires_grad=False)
        return model

    params, buffers = of_classes(half_frozen).init(0)
    assert "1.weight" in buffers
    assert "1.weight" not in params


def test_a_loss_with_numbers_with_state_and_with_parameters(monkeypatch):
    monkeypatch.setattr(registry, "_behaviors", dict(registry._behaviors))

    @losses.define(needs=("params",), scope="params", start=lambda: {"calls": torch.zeros(())},
                   rate=(Domain("a factor"), 1.0))  # fmt: skip
    def shrink(given, h, state):
        return h.rate * sum((p**2).sum() for p in given.params.values()), {"calls": state["calls"] + 1}

    found = of_classes(loss=losses.cross_entropy + specs.axis(0.1, 1) * shrink)
    assert found.first_numbers() == {"1.weight": 0.1, "1.0.rate": 1.0}
    params, buffers = found.init(0)
    assert buffers == {"loss:1.0.calls": torch.zeros(())}
    value, after = found.loss(params, buffers, found.parts["train"], found.first_numbers())
    assert after["loss:1.0.calls"] == 1
    assert value.ndim == 0
    assert found.score(params, buffers, found.parts["test"], found.first_numbers())["loss"].ndim == 0
    found.check()
    assert of_classes(loss=schedules.constant(0.5) * losses.cross_entropy).first_numbers() == {"weight": 0.5}


def test_fingerprints_know_the_data_and_the_parts():
    first, same = of_classes(), of_classes(lambda: layers.mlp(3, 9, 3))
    assert (first.facts["data"], first.facts["test_data"]) == (same.facts["data"], same.facts["test_data"])
    other = X.copy()
    other[0, 0] += 1e-3
    assert of_classes(train=(other, Y)).facts["data"] != first.facts["data"]
    parts = [(c["inputs"], c["target"]) for c in first.parts.values()]
    assert of_classes(classifier, *parts).facts["data"] == first.facts["data"]
    moved = of_classes(classifier, parts[1], parts[0], parts[2])
    assert moved.facts["data"] != first.facts["data"]
    assert moved.facts["test_data"] == first.facts["test_data"]


def test_integer_inputs_reach_an_embedding():
    found = of_classes(
        lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)),
        (np.arange(180).reshape(60, 3) % 7, Y),
    )
    assert found.parts["train"]["inputs"].dtype == torch.int64
    found.check()


def test_a_task_without_data():
    bowl = Task(
        "bowl",
        init=lambda seed: Variables({"w": torch.tensor([3.0, 1.0])}, {}),
        loss=lambda p, b, batch, h: ((p["w"] ** 2).sum(), b),
        score=lambda p, b, batch, h: {"loss": (p["w"] ** 2).sum(), "score": p["w"].norm()},
        parts={},
        metric=Metric("distance", "lower"),
    )
    bowl.check()
    assert [bowl.size(part) for part in ("train", "validation", "test")] == [0, 0, 0]
    assert repr(bowl) == "Task('bowl', 0 + 0 + 0 examples, by distance)"


# --- what it refuses --------------------------------------------------------------------------------------


def given(*outputs):
    return lambda: nn.Sequential(*outputs)


REFUSED = {
    "a model instance": (lambda: of_classes(nn.Linear(3, 3)), r"^model is one Linear, so every run would start from the "
                         r"same weights: pass a function that makes a new one, as in model=lambda: Linear\(…\)$"),
    "no function": (lambda: of_classes("mlp"), r"^model must be a function that makes an nn.Module, .*, got 'mlp'$"),
    "no module": (lambda: of_classes(lambda: None), r"^model\(\) must return an nn.Module, got a NoneType$"),
    "a factory that fails": (lambda: of_classes(nn.Linear), r"^model\(\) failed: TypeError: .*; it is called without "
                             r"arguments, once for each seed, as in"),
    "a class of torch's as loss": (lambda: of_classes(loss=nn.CrossEntropyLoss()), r"^loss must be a fallline loss such as "
                                   r"fl.losses.cross_entropy, got CrossEntropyLoss\(\)$"),
    "no loss": (lambda: of_classes(loss=None), r"^loss must be a fallline loss such as .*, got None$"),
    "inputs that do not fit": (lambda: of_classes(lambda: layers.mlp(4, 3)), r"^the model Sequential of Sequential does not "
                               r"take inputs \['n', 3\] of torch.float32: "),
    "integers into a Linear": (lambda: of_classes(train=(X.astype(int), Y)), r"does not take inputs \['n', 3\] of "
                               r"torch.int64: .*; if X holds numbers and not indices, pass X.astype\(float\)$"),
    "outputs that do not fit": (lambda: of_classes(lambda: layers.mlp(3, 2)), r"^the labels go from 0 to 2, but the model "
                                r"has 2 outputs, .*: give the model 3 outputs, or number the labels from 0$"),
    "no tensor": (lambda: of_classes(lambda: nn.LSTM(3, 3)), r"^the model of LSTM must return a tensor, got a tuple$"),
    "no examples first": (lambda: of_classes(given(nn.Linear(3, 3), nn.Flatten(0))), r"^the model of Sequential gives "
                          r"\[12\] for 4 examples: the first axis of its output must be the examples$"),
    "numbers in a row": (lambda: of_numbers(train=(X, NUMBERS[:, 0])), r"^the model gives \[36, 1\] and the target is "
                         r"\[36\]: they must have one shape .*use y\.reshape\(-1, 1\)\)$"),
    "classes as numbers": (lambda: of_numbers(train=(X, Y[:, None])), r"^the target of a regression must be floating point"),
    "a misspelt score": (lambda: of_classes(score="acuracy"), r"^no score is called 'acuracy'; did you mean 'accuracy'\? "
                         r"\(or pass a function\)$"),
    "accuracy for numbers": (lambda: of_numbers(score="accuracy"), r"^accuracy needs class numbers as targets, of an integer "
                             r"type; for numbers use score='r2'$"),
    **{f"{score} for classes": (lambda score=score: of_classes(score=score), rf"^{score} needs numbers as targets, the "
       r"labels are classes: use score='accuracy', or y.float\(\)$") for score in ("r2", "mse", "mae")},
    "r2 of a constant": (lambda: of_numbers(train=(X, np.ones((N, 1)))), r"^r2 is not defined for a target that is the same "
                         r"for all examples of a part: use score='mse'$"),
    "a score that fails": (lambda: of_classes(score=lambda p, t: 1 / 0), r"^the score function failed: ZeroDivisionError: "),
    "a score of pairs": (lambda: of_classes(score=lambda p, t: p), r"^a score function must give one number per example, a "
                         r"tensor \[4\] for 4 examples \(or one for all, 0-d\); got a tensor \[4, 3\]$"),
    "a score that is a number": (lambda: of_classes(score=lambda p, t: 0.5), r"^a score function must give .*; got a float$"),
    "a direction": (lambda: of_classes(score=lambda p, t: p[:, 0], better="up"), r"^better must be 'higher' or 'lower', got"),
    **{f"a batch of {batch!r}": (lambda batch=batch: of_classes(batch=batch), r"^batch must be a whole number of at least 1, "
       r"got") for batch in (0, -1, 2.5, True, "32")},
    "half precision": (lambda: of_classes(dtype=torch.float16), r"^dtype must be torch.float32 or torch.float64, got torch.f"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_trained_is_refused(what):
    make, sentence = REFUSED[what]
    with pytest.raises(FalllineError, match=sentence) as refused:
        make()
    assert isinstance(refused.value, NotFound if "misspelt" in what else BadTask)
    assert "\n" not in str(refused.value)


# --- what check() refuses ---------------------------------------------------------------------------------


def test_a_model_without_parameters():
    with pytest.raises(
        BadTask, match=r"^the model of Flatten has no parameters that are trained: nothing to learn$"
    ):
        of_classes(nn.Flatten).check()


def test_an_init_that_is_not_the_seeds():
    count = itertools.count()

    def model():
        made = layers.mlp(3, 3)
        nn.init.constant_(made[1].bias, next(count))
        return made

    with pytest.raises(
        BadTask, match=r"^the initial 1.bias of Sequential differs for the same seed: draw it from torch"
    ):
        of_classes(model).check()


class Noisy(nn.Linear):
    """Draws noise where no stream can be placed."""

    def forward(self, x):
        return super().forward(x) + float(np.random.random())  # noqa: NPY002  (what is to be noticed)


def test_noise_of_another_generator():
    state = np.random.get_state()  # noqa: NPY002
    try:
        with pytest.raises(
            BadTask, match=r"^the model or the loss of Noisy draws noise from the global generator of NumPy"
        ):
            of_classes(lambda: Noisy(3, 3)).check()
    finally:
        np.random.set_state(state)  # noqa: NPY002


def test_a_loss_that_is_not_one_number():
    task = Task(
        "pair", lambda seed: Variables({"w": torch.ones(2)}, {}), lambda p, b, batch, h: (p["w"], b),
        lambda p, b, batch, h: {}, {}, Metric("loss", "lower"),
    )  # fmt: skip
    with pytest.raises(BadTask, match=r"^the loss of pair must be one number, got shape \[2\]$"):
        task.check()


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy, 0.5 * losses.hinge + losses.mse, losses.focal])
def test_a_model_that_ends_in_what_the_loss_has_inside_is_refused(loss):
    truth = (X[:, 0] > 0).astype(np.float32)
    net = lambda: nn.Sequential(nn.Linear(3, 1), nn.Sequential(nn.Flatten(0), nn.Sigmoid()))  # noqa: E731
    with pytest.raises(
        BadTask, match=r"^the model ends in Sigmoid, and the loss .* it would be applied twice; take it out"
    ):
        Task.supervised(net, (X, truth), loss=loss, score="mse")
    Task.supervised(net, (X, truth), loss=losses.mse, score="mse")
    soft = lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(1))  # noqa: E731
    with pytest.raises(BadTask, match=r"^cross_entropy is given probabilities"):
        of_classes(soft)


def test_targets_of_one_class_are_refused():
    with pytest.raises(
        BadTask, match=r"^all 36 targets of the train part are 3: there is nothing to be told apart; look at"
    ):
        Task.supervised(lambda: nn.Linear(3, 5), (X, np.full(N, 3)), loss=losses.cross_entropy)
