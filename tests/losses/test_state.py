"""A loss with state: multipliers that grow while a bound is broken, carried from step to step by value()."""

import pytest
import torch

from fallline import losses, registry, specs
from fallline.specs import Domain, Loss

GIVEN = {"prediction": torch.tensor([1.0, 3.0, 5.0]), "target": torch.zeros(3)}


@pytest.fixture(autouse=True)
def _forget():
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


@pytest.fixture
def bounded():
    """λ · (mean − bound), with λ ← max(0, λ + rate · (mean − bound)) after each step."""

    @losses.define(
        needs=("prediction",), scope="batch", start=lambda: {"multiplier": torch.ones(())},
        bound=(Domain("what the mean may be"), 2.0), rate=(Domain("a step size", low=0.0), 0.5),
    )  # fmt: skip
    def bounded(given, h, state):
        over = given.prediction.mean() - h.bound
        after = (state["multiplier"] + h.rate * over.detach()).clamp(min=0)
        return state["multiplier"] * over, {"multiplier": after}

    return bounded


def test_state_starts_and_is_carried(bounded):
    state, values = losses.start(bounded), []
    assert state == {"multiplier": torch.tensor(1.0)}
    for _ in range(3):
        value, state = losses.value(bounded, GIVEN, state=state)
        values.append(float(value))
    assert values == [1.0, 1.5, 2.0]  # the mean is 3, so that λ = 1, 1.5, 2
    assert state == {"multiplier": torch.tensor(2.5)}


def test_without_a_state_it_starts(bounded):
    value, state = losses.value(bounded, GIVEN)
    assert value == 1.0
    assert state == {"multiplier": torch.tensor(1.5)}
    assert bounded(GIVEN["prediction"], GIVEN["target"]) == 1.0


def test_state_in_sums_and_scales_keeps_its_place(bounded):
    loss = losses.mse + 0.1 * bounded + 2.0 * (bounded + losses.mae)
    state = losses.start(loss)
    assert set(state) == {"1.0.multiplier", "2.0.0.multiplier"}
    first, after = losses.value(loss, GIVEN, state=state)
    assert set(after) == set(state)
    assert all(t == 1.5 for t in after.values())
    second, _ = losses.value(loss, GIVEN, state=after)
    torch.testing.assert_close(second - first, torch.tensor(0.5 * (0.1 + 2.0)))


def test_numbers_are_data_and_state_is_per_run_under_vmap(bounded):
    loss = 1.0 * bounded
    h = {
        "weight": torch.tensor([1.0, 2.0]),
        "0.bound": torch.tensor([2.0, 5.0]),
        "0.rate": torch.tensor([0.5, 1.0]),
    }

    def one(h, state):
        return losses.value(loss, GIVEN, h, state)

    state = {name: t.expand(2) for name, t in losses.start(loss).items()}
    values, state = torch.func.vmap(one)(h, state)
    assert values.tolist() == [1.0, -4.0]
    assert state["0.multiplier"].tolist() == [1.5, 0.0]


def test_losses_without_state_have_none():
    assert losses.start(losses.mse + 0.5 * losses.cross_entropy) == {}
    assert losses.value(losses.mse, GIVEN)[1] == {}


def test_what_a_loss_is_about_is_known(bounded):
    assert losses.needs(bounded + losses.mse) == {"prediction", "target"}
    assert losses.per_example(losses.mse + 2 * losses.mae)
    assert not losses.per_example(losses.mse + 2 * bounded)


def test_a_penalty_on_the_parameters():
    @losses.define(needs=("params",), scope="params")
    def squared_norm(given, h):
        return sum((p**2).sum() for p in given.params.values())

    loss = losses.mse + 0.5 * squared_norm
    given = {**GIVEN, "params": {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}}
    assert losses.value(loss, given)[0] == losses.mse(*GIVEN.values()) + 7.0
    weighted = {**given, "weight": torch.tensor([1.0, 0.0, 0.0])}
    assert losses.value(loss, weighted)[0] == 1.0 + 7.0


def test_a_custom_kind_is_found_again_by_its_module():
    with pytest.raises(specs.NotFound, match="no loss is called 'json:nothing'"):
        specs.behavior(Loss("json:nothing"))
