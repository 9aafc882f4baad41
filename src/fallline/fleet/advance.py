"""One step and one evaluation of one run, as pure functions; everything else in the fleet lifts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.func import grad_and_value

from .. import rules
from ..rng import Noise
from ..specs import Rule
from ..tasks.base import Batch, Task
from ..tree import norm, total
from ..types import State, Tree


class Carry(NamedTuple):
    """What a run takes from step to step."""

    params: Tree
    buffers: Tree
    state: State
    alive: Tensor


class Inputs(NamedTuple):
    """What a run is given at a step: numbers of rule and loss, which examples, and where its noise comes from."""

    h: dict[str, Tensor]
    loss_h: dict[str, Tensor]
    examples: Tensor
    seed: Tensor
    step: Tensor


Told: TypeAlias = dict[str, Tensor]
MEASURED = ("gradient_norm", "update_ratio")
Step: TypeAlias = Callable[[Carry, Inputs, Batch], tuple[Carry, Told]]
Evaluate: TypeAlias = Callable[[Carry, dict[str, Tensor], Tensor, Tensor, Batch], Told]


def one_step(task: Task, rule: Rule, *, measure: bool) -> Step:
    """The function that takes one run one step further.

    A run whose loss or whose next parameters are not finite keeps its last finite parameters from then on: it is
    frozen. With ``measure``, the gradient's norm and the size of the step relative to the parameters are told too.
    """

    def step(carry: Carry, given: Inputs, columns: Batch) -> tuple[Carry, Told]:
        batch = {name: column[given.examples] for name, column in columns.items()}

        def loss(params: Tree) -> tuple[Tensor, Tree]:
            return task.loss(params, carry.buffers, batch, given.loss_h)

        with Noise(given.seed, given.step):
            gradient, (value, buffers) = grad_and_value(loss, has_aux=True)(carry.params)
        direction, state, _ = rules.update(rule, gradient, carry.state, carry.params, given.h)
        after = {k: p + direction[k] for k, p in carry.params.items()}
        alive = carry.alive & torch.isfinite(value + total(after))
        params = {k: torch.where(alive, after[k], p) for k, p in carry.params.items()}
        buffers = {k: torch.where(alive, b, carry.buffers[k]) for k, b in buffers.items()}
        told = {"train_loss": value, "alive": alive}
        if measure:
            told.update(zip(MEASURED, (norm(gradient), norm(direction) / norm(carry.params)), strict=True))
        return Carry(params, buffers, state, alive), told

    return step


def one_evaluation(task: Task, rule: Rule) -> Evaluate:
    """The function that judges one run on some examples: its "loss" and "score", per example where they are.

    ``seed`` and ``place`` are where the noise comes from of a model that is random when it is judged, too.
    """

    def evaluate(
        carry: Carry, loss_h: dict[str, Tensor], seed: Tensor, place: Tensor, columns: Batch
    ) -> Told:
        seen = rules.view(rule, carry.params, carry.state)
        with Noise(seed, place):
            return task.score(seen, carry.buffers, columns, loss_h)

    return evaluate
