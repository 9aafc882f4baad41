"""torch.amp.GradScaler: gradients come scaled, go in unscaled, and a step with an infinite one is left out."""

from __future__ import annotations

import copy

import pytest
import torch

from .training import MAKERS, STEPS, assert_equal, data, loss_of, net

every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def step(model, optimizer, scaler, batch, spoil=False):
    optimizer.zero_grad()
    scaler.scale(loss_of(model, batch)).backward()
    if spoil:
        next(model.parameters()).grad.view(-1)[0] = torch.inf
    scaler.step(optimizer)
    scaler.update()


@every
def test_a_scaled_run_is_the_plain_run(make):
    """The scale is a power of two, so that scaling rounds nothing."""
    model, plain = net(), net()
    optimizer, other, scaler = make(model), make(plain), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(STEPS):
        step(model, optimizer, scaler, data())
        other.zero_grad()
        loss_of(plain, data()).backward()
        other.step()
    assert_equal(model, plain)


@every
def test_a_step_with_an_infinite_gradient_is_left_out(make):
    model = net()
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    step(model, optimizer, scaler, data())
    before, held = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
    step(model, optimizer, scaler, data(), spoil=True)
    assert_equal(model, before)
    assert str(optimizer.state_dict()) == str(held)
    assert scaler.get_scale() == 2.0**9
    step(model, optimizer, scaler, data())
    assert optimizer.steps == 2


@every
def test_a_saved_run_goes_on_bit_equal(make):
    model = net()
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for t in range(4):
        step(model, optimizer, scaler, data(), spoil=t == 1)
    twin = copy.deepcopy(model)
    again, other = make(twin), torch.amp.GradScaler("cpu")
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(scaler.state_dict())
    for t in range(4):
        step(model, optimizer, scaler, data(seed=t))
        step(twin, again, other, data(seed=t))
    assert_equal(model, twin)


def test_autocast_in_bfloat16_trains_float32_parameters():
    model = net()
    optimizer = MAKERS["composed"](model)
    first = loss_of(model, data()).item()
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, data())
        loss.backward()
        optimizer.step()
    assert loss.item() < first
    assert {p.dtype for p in model.parameters()} == {torch.float32}
