"""Our recurrent layers, transformers and adapters keep the law of the fleet, and train as torch's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fallline as fl
from fallline import layers, losses, rules
from fallline.fleet.single.template import template
from fallline.fleet.trial import choose

from .cases import EXAMPLES, check_near, check_same, loop, numbers, table, train, weights

random = np.random.default_rng(8)
TEXT = tuple(random.integers(0, 9, size=(2, EXAMPLES, 5)))


class Reader(nn.Module):
    """A recurrent layer over the columns of a table, and a linear one on its last output."""

    def __init__(self, layer: Callable[..., nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = layer(2, 3, batch_first=True, **options)
        self.out = nn.Linear(6 if options.get("bidirectional") else 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x.unflatten(1, (3, 2)))[0][:, -1])


STACKED = {"num_layers": 2, "bidirectional": True}
RECURRENT: dict[str, tuple[Callable[..., nn.Module], Callable[..., nn.Module], dict[str, Any]]] = {
    "lstm": (layers.LSTM, nn.LSTM, {}),
    "gru": (layers.GRU, nn.GRU, {"bias": False}),
    "stacked lstm": (layers.LSTM, nn.LSTM, STACKED),
    "stacked gru": (layers.GRU, nn.GRU, STACKED),
}


def by_kind(names: Iterable[str]) -> list[Any]:
    """Stacked layers are the same loop, written out several times: slow to trace."""
    return [pytest.param(name, marks=[pytest.mark.slow] if "stacked" in name else []) for name in names]


def text_model() -> nn.Module:
    return layers.transformer(9, width=8, heads=2, depth=1, context=5, dropout=0.2)


def adapted(dropout: float = 0.0) -> nn.Module:
    """Adapters on a transformer that is the same for all seeds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = layers.transformer(9, width=8, heads=2, depth=1, context=5, dropout=dropout)
    return fl.lora(base, rank=2)


def dropping() -> nn.Module:
    return Reader(layers.LSTM, num_layers=2, dropout=0.4)


MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    **{
        name: (functools.partial(Reader, ours, **options), table())
        for name, (ours, _, options) in RECURRENT.items()
    },
    "lstm with dropout": (dropping, table()),
    "transformer with dropout": (text_model, TEXT),
    "adapters": (adapted, TEXT),
    "cnn": (
        lambda: layers.cnn(1, 3, 5, outputs=3, size=6),
        (numbers(1, EXAMPLES, 36), random.integers(0, 3, EXAMPLES)),
    ),
}


def task_of(name: str, dtype: torch.dtype = torch.float64) -> fl.Task:
    make, data = MODELS[name]
    return fl.Task.supervised(make, data, loss=losses.cross_entropy, dtype=dtype)


def runs_of(count: int) -> list[fl.Run]:
    return [fl.Run(rules.adam(lr=0.002 * (1 + i)), seed=i % 3) for i in range(count)]


@pytest.mark.parametrize("name", by_kind(MODELS))
def test_a_model_gives_the_same_bits_in_any_fleet(name: str):
    """Of float32 and float64 in turn, and batched though it is recurrent."""
    task, runs = task_of(name, (torch.float32, torch.float64)[list(MODELS).index(name) % 2]), runs_of(5)
    whole = train(task, runs, steps=4)
    for chosen in ([3], [4, 0]):
        some = train(task, [runs[i] for i in chosen], steps=4)
        check_same(some, [whole[i] for i in chosen], f"{name} in a fleet of {len(chosen)}")


@pytest.mark.parametrize("name", ["gru", "lstm with dropout"])
def test_the_plan_batches_them(name: str):
    assert choose(task_of(name)).executor != "alone"


@pytest.mark.parametrize("name", by_kind(RECURRENT))
def test_a_recurrent_model_trains_as_the_one_of_torch_in_a_plain_loop(name: str):
    task, run = task_of(name), fl.Run(rules.momentum(lr=0.01), seed=4)
    record = train(task, [run, *runs_of(1)], steps=50)[0]
    _, theirs, options = RECURRENT[name]
    module = loop(task, functools.partial(Reader, theirs, **options), F.cross_entropy, run, steps=50, batch=7)
    check_near(record.weights, weights(module))


def by_rank() -> tuple[fl.Task, nn.Module]:
    """Adapters of any rank on one base."""
    base = text_model().double()
    made = fl.Task.supervised(
        lambda rank=4: fl.lora(base, rank, target="*.query"),
        TEXT,
        loss=losses.cross_entropy,
        dtype=torch.float64,
    )
    return made, base


@pytest.mark.parametrize("rank", [2, 4])
def test_adapters_train_as_in_a_plain_loop(rank: int):
    """Of rank 2 in a program of rank 4, and of rank 4; without dropout, as noise is of the fleet."""
    task, base = by_rank()
    base.eval()
    frozen = {name: p.clone() for name, p in base.named_parameters()}
    run = fl.Run(rules.momentum(lr=0.1), seed=4, model={"rank": rank, "dropout": 0.0})
    others = [fl.Run(rules.momentum(lr=0.1), seed=s, model={"rank": 3, "dropout": 0.0}) for s in (4, 5)]
    record = train(task, [run, *others], steps=50)[0]
    variant = task.variant({"rank": rank})
    module = loop(
        variant, lambda: without_dropout(fl.lora(base, rank, target="*.query")), F.cross_entropy, run, 50, 7
    )
    check_near(record.weights, weights(module))
    assert {name: w.shape[0] for name, w in record.weights.items()} == {
        "blocks.0.attention.query.A": rank, "blocks.0.attention.query.B": 8,
    }  # fmt: skip
    assert all(torch.equal(p, frozen[name]) for name, p in base.named_parameters())


def without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


def test_runs_of_any_rank_give_the_same_bits_alone():
    task, _ = by_rank()
    runs = [
        fl.Run(rules.adam(lr=0.01), seed=seed, model={"rank": rank})
        for rank in (1, 3, 4, 5)
        for seed in (0, 1)
    ]
    whole = train(task, runs, steps=6)
    for i in (1, 3, 6):
        check_same(train(task, [runs[i]], steps=6), [whole[i]], f"rank {runs[i].model['rank']}")


def test_the_base_is_held_once():
    """A run's variables are its adapters, and what stands for the base is the base itself."""
    task, base = by_rank()
    assert {name.split(".")[-1] for name in task.init(0).params} == {"A", "B"}
    assert [name.split(".")[-1] for name in task.init(0).buffers] == ["scale"]
    held = {p.data_ptr() for p in base.parameters()}
    for rank in (1, 4):
        whole = template(task.variant({"rank": rank}))
        assert whole is not None
        assert {p.data_ptr() for name, p in whole.named_parameters() if name[-2:] not in (".A", ".B")} == held


def test_dropout_of_a_recurrent_layer_is_of_each_run():
    runs = [fl.Run(rules.sgd(lr=0.05), seed=s) for s in (0, 1, 1)]
    one, other, same = (record.series["train_loss"] for record in train(task_of("lstm with dropout"), runs))
    assert other == same != one
