"""The Hugging Face Trainer on a tiny random BERT, dropout and all: a resumed training is the whole one."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from fallline import optim, rules, schedules

from .training import MAKERS, STEPS, assert_equal, by_name, library, needs

pytestmark = needs("transformers", "accelerate")
WORDS = 11


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "1")


def bert():
    """A classifier of 3,000 numbers."""
    transformers = library("transformers")
    config = transformers.BertConfig(
        vocab_size=WORDS, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8, num_labels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def sentences(n=32):
    random = torch.Generator().manual_seed(0)
    words = torch.randint(WORDS, (n, 6), generator=random)
    return [{"input_ids": row, "labels": (row.sum() % 2)} for row in words]


def train(folder, make, drive, resume=None, **options):
    """The model after the training, and its trainer."""
    transformers, model = library("transformers"), bert()
    optimizer = make(model)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, save_strategy="steps", save_steps=STEPS // 2, report_to=[],
        per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True, logging_steps=2, seed=0, **options,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, arguments, train_dataset=sentences(), optimizers=(optimizer, drive(optimizer))
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, trainer


def falling(optimizer):
    return lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / STEPS)


def composed(model):
    rule = rules.chain(rules.clip_norm(0.5), rules.adamw(lr=schedules.cosine(0.1, STEPS, end=0.01)))
    return optim.Optimizer(model.named_parameters(), rule)


CASES = {name: (by_name(name), falling) for name in MAKERS if hasattr(optim, name)} | {
    "composed": (composed, optim.RuleScheduler),
    "routed": (MAKERS["routed"], optim.RuleScheduler),
}


@pytest.mark.parametrize(("make", "drive"), CASES.values(), ids=CASES)
def test_a_resumed_training_is_the_whole_one(make, drive, tmp_path):
    whole, trainer = train(tmp_path, make, drive)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert len(rates) == STEPS // 2
    rest, again = train(tmp_path, make, drive, resume=str(tmp_path / f"checkpoint-{STEPS // 2}"))
    assert_equal(whole, rest)
    assert trainer.optimizer.optimizer.steps == again.optimizer.optimizer.steps == STEPS


def test_with_accumulated_gradients_in_bfloat16(tmp_path):
    options = {"bf16": True, "gradient_accumulation_steps": 2, "max_grad_norm": 0.1}
    whole, _ = train(tmp_path, by_name("AdamW"), falling, **options)
    rest, _ = train(tmp_path, by_name("AdamW"), falling, resume=str(tmp_path / "checkpoint-4"), **options)
    assert_equal(whole, rest)


def test_a_trainer_that_makes_its_own_scheduler_for_a_scheduled_rule_is_told(tmp_path):
    with pytest.raises(ValueError, match="keep one of the two"):
        train(tmp_path, composed, lambda optimizer: None)
