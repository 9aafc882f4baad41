"""Lightning's Trainer: fit, save a checkpoint, fit on from it; equal to a fit without a break."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.optim import lr_scheduler

from fallline import optim

from .training import MAKERS, assert_equal, data, library, loss_of, needs, net

pytestmark = needs("lightning")
every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
BATCH = 4


@functools.cache
def module_class():
    class Module(library("lightning.pytorch").LightningModule):
        """The small training as Lightning has it."""

        def __init__(self, make, drive=None):
            super().__init__()
            self.net, self.make, self.drive = net(), make, drive

        def training_step(self, batch, index):
            return loss_of(self.net, batch)

        def configure_optimizers(self):
            optimizer = self.make(self.net)
            if self.drive is None:
                return optimizer
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": self.drive(optimizer), "interval": "step"},
            }

    return Module


def fit(module, folder, epochs, resume=None, **options):
    trainer = library("lightning.pytorch").Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=BATCH)
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


def assert_resumes(make, folder, drive=None, **options):
    whole = module_class()(make, drive)
    fit(whole, folder, 2, **options)
    half = module_class()(make, drive)
    fit(half, folder, 1, **options).save_checkpoint(folder / "half.ckpt")
    rest = module_class()(make, drive)
    trainer = fit(rest, folder, 2, resume=folder / "half.ckpt", **options)
    assert_equal(whole.net, rest.net)
    assert isinstance(trainer.optimizers[0], torch.optim.Optimizer)
    return whole, trainer


def plain_loop(make, epochs):
    model = net()
    optimizer = make(model)
    for _ in range(epochs):
        for batch in zip(*(part.split(BATCH) for part in data()), strict=True):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    return model


@every
def test_a_resumed_fit_is_the_whole_one_and_a_plain_loop(make, tmp_path):
    whole, trainer = assert_resumes(make, tmp_path)
    assert trainer.optimizers[0].steps == 2 * len(data()[0]) // BATCH
    assert_equal(whole.net, plain_loop(make, 2))


def test_with_a_torch_scheduler_a_clip_and_accumulated_gradients(tmp_path):
    def drive(optimizer):
        return lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=20)

    assert_resumes(MAKERS["Adam"], tmp_path, drive, gradient_clip_val=0.1, accumulate_grad_batches=2)


def test_the_schedules_of_a_rule_beside_a_scheduler_that_shows_them(tmp_path):
    _, trainer = assert_resumes(MAKERS["composed"], tmp_path, optim.RuleScheduler)
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.get_last_lr() == [trainer.optimizers[0].param_groups[0]["lr"]]


def test_a_fit_in_bfloat16(tmp_path):
    assert_resumes(MAKERS["routed"], tmp_path, precision="bf16-true")
