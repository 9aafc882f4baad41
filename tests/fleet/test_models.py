"""Models of many kinds keep the law: the same bits in any fleet, the same numbers as a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fallline as fl
from fallline import fleet, losses, rng, rules
from fallline.errors import BadTask
from fallline.fleet.trial import choose

from .cases import ONCE, check_near, check_same, classification, loop, table, train, weights
from .models import ALONE, BATCHED, RANDOM, Recurrent, task_of

NAMES = list(BATCHED)
DTYPES = (torch.float32, torch.float64)


def runs_of(count: int) -> list[fl.Run]:
    return [fl.Run(rules.adam(lr=0.002 * (1 + i)), seed=i % 5) for i in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_gives_the_same_bits_in_any_fleet(name: str):
    """Batches of 1 and of 7, float32 and float64 alternate over the models."""
    i = NAMES.index(name)
    batch = 7 if i % 2 or "batch norm" in name else 1
    task, runs = task_of(name, DTYPES[i // 2 % 2]), runs_of(17)
    whole = train(task, runs, steps=6, batch=batch)
    for chosen in ([8], [16, 3, 0]):
        some = train(task, [runs[i] for i in chosen], steps=6, batch=batch)
        check_same(some, [whole[i] for i in chosen], f"{name} in a fleet of {len(chosen)}")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_model_gives_the_same_bits_in_every_fleet(name: str):
    for dtype in DTYPES:
        for batch in (1, 7, 32) if "batch norm" not in name else (7, 32):
            task, runs = task_of(name, dtype), runs_of(70)
            whole = train(task, runs, batch=batch)
            for size in (1, 2, 3, 5, 17, 64):
                some = train(task, runs[-size:], batch=batch)
                check_same(some, whole[-size:], f"{name} in a fleet of {size}")


CROSS_ENTROPY = F.cross_entropy


@pytest.mark.parametrize("name", [*(name for name in BATCHED if name not in RANDOM), *ALONE])
def test_a_model_trains_as_in_a_plain_loop(name: str):
    """A bias before a batch norm has a gradient of exactly zero: what rounding makes of it is left out."""
    make, _ = {**BATCHED, **ALONE}[name]
    task, run = task_of(name), fl.Run(rules.momentum(lr=0.01), seed=4)
    records = train(task, [run, *runs_of(2)] if name in BATCHED else [run], steps=50, executor="auto")
    module = loop(task, make, CROSS_ENTROPY, run, steps=50, batch=7)
    unmoved = {"batch norm": ["0.bias"], "convolution and batch norm": ["first.bias"]}.get(name, [])
    check_near(records[0].weights, weights(module), without=unmoved)
    expected = _test_loss(module.eval(), task)
    assert records[0].outcome.numbers["test_loss"] == pytest.approx(expected, rel=1e-9)


def _test_loss(module: nn.Module, task: fl.Task) -> float:
    columns = task.parts["test"]
    with torch.no_grad():
        return float(F.cross_entropy(module(columns["inputs"]), columns["target"]))


def test_running_averages_are_those_of_a_plain_loop():
    """Seen through the test loss, which batch norm takes from them; and in the buffers themselves."""
    name = "batch norm"
    task, run = task_of(name), fl.Run(rules.sgd(lr=0.05), seed=1)
    module = loop(task, BATCHED[name][0], CROSS_ENTROPY, run, steps=30, batch=7)
    seen: dict[str, Any] = {}

    def spied(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        seen.update(buffers)
        return task.score(params, buffers, batch, h)

    spy = fl.Task(**{**vars(task), "score": spied})
    fleet.run(spy, [run], steps=30, batch=7, workers=0, executor="alone")
    for key, buffer in module.named_buffers():
        torch.testing.assert_close(seen[key], buffer, rtol=1e-10, atol=1e-12)
    assert int(seen["1.num_batches_tracked"]) == 30


def test_frozen_parameters_stay_and_are_not_reported():
    task = task_of("frozen parameters")
    variables = task.init(0)
    assert set(variables.params) == {"3.weight", "3.bias"}
    assert set(variables.buffers) == {"1.weight", "1.bias"}
    assert set(train(task, [fl.Run(rules.sgd(), seed=0)])[0].weights) == set(variables.params)


# --- models that cannot be batched --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALONE)
def test_a_model_that_cannot_be_batched_trains_alone_and_the_plan_says_why(name: str):
    choice = choose(task_of(name))
    assert (choice.executor, choice.largest) == ("alone", 1)
    assert choice.reason.startswith("the model cannot be batched: ")
    assert len(choice.reason) > 80
    assert "\n" not in choice.reason


def test_a_recurrent_layer_of_torch_is_named_with_what_does_the_same():
    told = "the model cannot be batched: lstm is an nn.LSTM, whose kernel takes one run at a time (fl.layers.LSTM does"
    assert choose(task_of("recurrent")).reason.startswith(told)


def test_records_of_alone_are_in_order_and_the_same_in_any_company():
    task, runs = task_of("recurrent"), runs_of(4)
    with pytest.warns(
        UserWarning, match="nn.LSTM, whose kernel takes one run at a time .* so each run trains alone"
    ):
        whole = train(task, runs, executor="auto")
    assert [record.run for record in whole] == runs
    check_same(train(task, runs[2:3], executor="auto"), whole[2:3], "alone")
    check_same(train(task, runs, executor="alone"), whole, "asked for")


# --- noise --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_each_run_has_its_own_noise_the_same_here_and_in_workers(name: str):
    task, runs = task_of(name, torch.float32), [fl.Run(rules.sgd(lr=0.05), seed=s) for s in (0, 1, 1, 2)]
    here = train(task, runs)
    check_same(train(task, runs, workers=2), here, "in workers")
    losses_seen = [record.series["train_loss"].values.tolist() for record in here]
    assert losses_seen[1] == losses_seen[2]
    assert losses_seen[0] != losses_seen[1] != losses_seen[3]


def test_noise_of_runs_that_start_alike_differs_by_seed_alone(monkeypatch: pytest.MonkeyPatch):
    """With one start and one order for all seeds, only dropout is left to tell two runs apart."""
    monkeypatch.setattr(rng, "order", lambda seed, epoch, n, order=rng.order: order(0, epoch, n))
    for name, alike in (("dropout", False), ("linear", True)):
        task = task_of(name)
        same = fl.Task(**{**vars(task), "init": lambda seed, task=task: task.init(0)})
        one, other = train(same, [fl.Run(rules.sgd(lr=0.05), seed=s) for s in (0, 1)])
        assert (one.series["train_loss"] == other.series["train_loss"]) is alike


def test_dropout_is_of_the_step_as_of_the_seed():
    """A run of rate zero sees other noise at each step, and at evaluation none."""
    make, (X, y) = BATCHED["dropout"]
    whole = fl.Task.supervised(make, (X, y), loss=losses.cross_entropy)
    record = train(whole, [fl.Run(rules.sgd(lr=0.0))], steps=24, batch=30)[0]
    assert len(set(record.series["train_loss"].values.tolist())) == len(record.series["train_loss"])
    assert len(set(record.series["validation_loss"].values.tolist())) == 1


class Drawing(nn.Module):
    """Draws by a function that is handed in, also when it is judged."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.out, self.draw = nn.Linear(6, 3), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) + self.draw(x).sum()


PLACED = {
    "rand": lambda x: torch.rand(3),
    "randn": lambda x: torch.randn(3, dtype=x.dtype),
    "rand_like": torch.rand_like,
    "randn_like": torch.randn_like,
    "bernoulli": lambda x: torch.bernoulli(torch.full((3,), 0.5)),
    "dropout, always": lambda x: F.dropout(x, 0.5, training=True),
}


@pytest.mark.parametrize("name", PLACED)
def test_noise_that_can_be_placed_is_the_same_in_any_fleet_and_each_time(name: str):
    task = fl.Task.supervised(lambda: Drawing(PLACED[name]), table(), loss=losses.cross_entropy)
    before = torch.random.get_rng_state()
    runs = runs_of(3)
    whole = train(task, runs, steps=3)
    check_same(train(task, runs[1:2], steps=3), whole[1:2], "alone")
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator was used"


REFUSED = {
    "randint": lambda x: torch.randint(0, 2, (3,)),
    "normal_": lambda x: torch.empty(3).normal_(),
    "multinomial": lambda x: torch.multinomial(torch.ones(3), 2).float(),
    "exponential_": lambda x: F.gumbel_softmax(x),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "rrelu": lambda x: F.rrelu(x, training=True),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("executor", ["auto", "traced", "alone"])
def test_noise_that_cannot_be_placed_is_refused_before_the_first_step(name: str, executor: str):
    refused = rf"^the model draws noise by {name}, which cannot be placed per run: use dropout, rand, randn"

    def asked() -> None:
        task = fl.Task.supervised(lambda: Drawing(REFUSED[name]), table(), loss=losses.cross_entropy)
        fleet.run(task, runs_of(1), steps=1, executor=executor, progress=_never)

    with pytest.raises(BadTask, match=refused):
        asked()


def _never(done: int) -> None:
    raise AssertionError("a step was taken")


class Dropping(nn.Module):
    """Random in training only, by a function that is not replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 4, 2, dropout=0.5, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.unsqueeze(-1))[0][:, -1])


def test_noise_in_training_alone_is_refused_by_the_plan():
    task = fl.Task.supervised(Dropping, table(), loss=losses.cross_entropy)
    with pytest.raises(BadTask, match=r"^the model draws noise by lstm, which cannot be placed per run: "):
        choose(task)
    assert choose(fl.Task.supervised(Recurrent, table(), loss=losses.cross_entropy)).executor == "alone"


HIDDEN = {
    "NumPy": lambda x: torch.as_tensor(float(np.random.normal())),  # noqa: NPY002  (what users write)
    "torch": lambda x: torch.distributions.Gamma(torch.ones(()), torch.ones(())).sample(),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_noise_from_a_generator_that_all_runs_share_is_refused(name: str):
    state = np.random.get_state()  # noqa: NPY002
    task = fl.Task.supervised(lambda: Drawing(HIDDEN[name]), table(), loss=losses.cross_entropy, name="mine")
    told = rf"^the model or the loss of mine draws noise from the global generator of {name}, so that a run would "
    with pytest.raises(BadTask, match=told):
        fleet.run(task, runs_of(1), steps=1)
    np.random.set_state(state)  # noqa: NPY002


# --- what a model may be ------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x)


def test_a_class_a_function_and_a_lambda_are_the_same_model():
    def made() -> nn.Module:
        return Net()

    records = [train(classification(make), runs_of(1))[0] for make in (Net, made, lambda: Net())]
    for other in records[1:]:
        check_same([other], records[:1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_inputs_and_weights_have_the_dtype_asked_for(dtype: torch.dtype):
    task = classification(Net, dtype=dtype)
    assert task.parts["train"]["inputs"].dtype == dtype
    assert {p.dtype for p in task.init(0).params.values()} == {dtype}
    record = fleet.run(task, runs_of(1), steps=2, weights=True, **ONCE)[0]
    assert {str(w.dtype) for w in record.weights.values()} == {str(dtype).removeprefix("torch.")}
