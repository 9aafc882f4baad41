"""accelerate: prepare, save_state, load_state; equal to a run without a break."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from fallline import optim

from .training import MAKERS, STEPS, assert_equal, data, library, loss_of, needs, net

pytestmark = needs("accelerate")
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def prepared(make, drive=None, **options):
    """What accelerate makes of the small training."""
    accelerate = library("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model = net()
    optimizer = make(model)
    parts = [model, optimizer] + ([drive(optimizer)] if drive else [])
    return accelerator, accelerator.prepare(*parts)


def train(accelerator, parts, steps):
    model, optimizer, *rest = parts
    for t in steps:
        with accelerator.accumulate(model):
            accelerator.backward(loss_of(model, data(seed=t)))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            for scheduler in rest:
                scheduler.step()
            optimizer.zero_grad()


def assert_resumes(make, folder, drive=None, **options):
    whole, parts = prepared(make, drive, **options)
    train(whole, parts, range(4))
    whole.save_state(str(folder))
    train(whole, parts, range(4, STEPS))
    resumed, others = prepared(make, drive, **options)
    resumed.load_state(str(folder))
    train(resumed, others, range(4, STEPS))
    assert_equal(parts[0], others[0])
    return parts


@every
def test_a_loaded_run_goes_on_bit_equal(make, tmp_path):
    parts = assert_resumes(make, tmp_path)
    assert parts[1].optimizer.steps == STEPS


def test_with_a_torch_scheduler_and_accumulated_gradients(tmp_path):
    def drive(optimizer):
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)

    parts = assert_resumes(MAKERS["AdamW"], tmp_path, drive, gradient_accumulation_steps=2)
    assert parts[1].optimizer.steps == STEPS // 2


@pytest.mark.parametrize("name", ["composed", "routed"])
def test_the_schedules_of_a_rule_beside_a_scheduler_that_shows_them(name, tmp_path):
    parts = assert_resumes(MAKERS[name], tmp_path, optim.RuleScheduler)
    assert isinstance(parts[2].scheduler, torch.optim.lr_scheduler.LRScheduler)
    assert len(parts[2].get_last_lr()) == 1
