"""torch.compile of a whole training step: the optimizer's step is run as it is, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch

from .training import MAKERS, STEPS, assert_equal, data, loss_of, net

pytestmark = pytest.mark.filterwarnings("ignore::Warning:torch")  # what the compiler says of itself


def train_step(model, optimizer, batch):
    optimizer.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    optimizer.step()
    return loss


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_compiled_training_step_is_the_plain_one(make, backend):
    model, plain = net(), net()
    compiled = torch.compile(train_step, backend=backend)
    optimizer, other = make(model), make(plain)
    for t in range(STEPS):
        compiled(model, optimizer, data(seed=t))
        train_step(plain, other, data(seed=t))
    if backend == "eager":
        assert_equal(model, plain)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert optimizer.steps == STEPS
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2, "each step is compiled anew"


def test_a_compiled_run_that_was_saved_goes_on_bit_equal():
    model = net()
    optimizer = MAKERS["routed"](model)
    compiled = torch.compile(train_step, backend="aot_eager")
    for t in range(4):
        compiled(model, optimizer, data(seed=t))
    twin = copy.deepcopy(model)
    again = MAKERS["routed"](twin)
    again.load_state_dict(optimizer.state_dict())
    for t in range(4):
        compiled(model, optimizer, data(seed=t))
        compiled(twin, again, data(seed=t))
    assert_equal(model, twin)
