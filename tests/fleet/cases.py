"""What the tests of the fleet share: small tasks, a plain PyTorch loop, and what it means for records to be equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

import fallline as fl
from fallline import fleet, layers, losses, rng
from fallline.optim import Optimizer
from fallline.records import Record
from fallline.tasks import Task

EXAMPLES = 50
ONCE: dict[str, Any] = {"workers": 0, "executor": "traced"}
"""In this process, by one executor, without trying others."""


def numbers(seed: int, *shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape)


def table(inputs: int = 6, classes: int = 3) -> tuple[Any, Any]:
    X = numbers(0, EXAMPLES, inputs)
    return X, (X[:, 0] + X[:, 1] * X[:, 2]).argsort().argsort() * classes // EXAMPLES


def classification(model: Callable[[], nn.Module] | None = None, **options: Any) -> Task:
    """A small table in three classes."""
    make = model or (lambda: layers.mlp(6, 5, 3, activation="tanh"))
    return fl.Task.supervised(make, table(), **{"loss": losses.cross_entropy, **options})


def regression(**options: Any) -> Task:
    """Two numbers to be told from six."""
    X = numbers(0, EXAMPLES, 6)
    y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], 1)
    given = {"loss": losses.mse, "score": "mse", **options}
    return fl.Task.supervised(lambda: layers.mlp(6, 5, 2, activation="tanh"), (X, y), **given)


def parts(X: Any, y: Any) -> dict[str, Any]:
    """The same examples for training, validation and test."""
    return {"train": (X, y), "validation": (X, y), "test": (X, y)}


# --- equal records ----------------------------------------------------------------------------------------


def differences(one: Record, other: Record) -> list[str]:
    """In what two records of one run differ, bit for bit, but for the time that they took."""
    found = []
    if (one.outcome.status, one.outcome.step, one.outcome.sentence) != (
        other.outcome.status,
        other.outcome.step,
        other.outcome.sentence,
    ):
        found.append(f"outcome: {one.outcome.sentence} / {other.outcome.sentence}")
    for what in ("weights", "examples"):
        found += [f"{what}.{k}" for k in _unlike(getattr(one, what), getattr(other, what))]
    found += [
        f"series.{k}" for k in set(one.series) | set(other.series) if one.series.get(k) != other.series.get(k)
    ]
    ours, theirs = ({k: np.float64(v) for k, v in r.outcome.numbers.items()} for r in (one, other))
    return found + [f"numbers.{k}" for k in _unlike(ours, theirs)]


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    both = set(one) & set(other)
    alike = {k for k in both if one[k].dtype == other[k].dtype and one[k].tobytes() == other[k].tobytes()}
    return sorted((set(one) | set(other)) - alike)


def check_same(ours: Sequence[Record], theirs: Sequence[Record], what: str = "") -> None:
    """Two lists of records of the same runs are equal bit for bit."""
    for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        found = differences(one, other)
        assert one.run == other.run
        assert not found, f"{what}: run {i}, {one.run.rule!r}, differs in {found}"


def first_copied(record: Record) -> int | None:
    """The step at which a run of a population first took over another's state; None where it never did."""
    lineage = record.run.tags.get("lineage")
    return lineage[0]["step"] if lineage else None


def check_near(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], relative: float = 1e-10, without: Sequence[str] = ()
) -> None:
    """Two trees of weights agree, relative to the largest entry of each tensor."""
    assert set(ours) == set(theirs)
    for name in set(ours) - set(without):
        one, other = np.asarray(ours[name]), np.asarray(theirs[name])
        far = np.abs(one - other).max() / max(np.abs(other).max(), 1e-300)
        assert far <= relative, f"{name} is {far:.1e} apart"


# --- the plain loop ---------------------------------------------------------------------------------------


def order(seed: int, examples: int, batch: int, steps: int) -> list[np.ndarray[Any, Any]]:
    """Which examples each step sees: one permutation after another, cut into batches."""
    epochs = [rng.order(seed, epoch, examples) for epoch in range(steps * batch // examples + 1)]
    whole = np.concatenate(epochs)
    return [whole[t * batch : (t + 1) * batch] for t in range(steps)]


def loop(
    task: Task,
    make: Callable[[], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    run: fl.Run,
    steps: int,
    batch: int,
    optimizer: Callable[[list[Any]], torch.optim.Optimizer] | None = None,
) -> nn.Module:
    """Train one run as one would without this package: a module, autograd, an optimizer."""
    module = make().to(next(iter(task.init(run.seed).params.values())).dtype)
    variables = task.init(run.seed)
    own = {**variables.params, **variables.buffers}
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            tensor.copy_(own.get(name, tensor))  # what is frozen alike for all seeds is no variable of a run
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    shell = optimizer(trained) if optimizer else Optimizer(trained, run.rule)
    module.train()
    columns = task.parts["train"]
    for chosen in order(run.seed, task.size("train"), batch, steps):

        def closure(chosen: Any = chosen) -> Any:
            shell.zero_grad()
            value = loss(module(columns["inputs"][chosen]), columns["target"][chosen])
            value.backward()
            return value

        shell.step(closure)
    return module


def weights(module: nn.Module) -> dict[str, Any]:
    return {name: p.detach().numpy() for name, p in module.named_parameters() if p.requires_grad}


def predicted(task: Task, make: Callable[[], nn.Module], params: Mapping[str, Any], part: str) -> Tensor:
    """What a module with these parameters gives for a part, in evaluation mode."""
    module = make().eval()
    tensors = {name: torch.as_tensor(p) for name, p in params.items()}
    return functional_call(module, tensors, (task.parts[part]["inputs"],))


def train(
    task: Task, runs: Sequence[fl.Run], steps: int = 12, batch: int = 7, **options: Any
) -> list[Record]:
    """Through the public door, with the final weights."""
    return fleet.run(task, runs, steps=steps, batch=batch, weights=True, **{**ONCE, **options})
