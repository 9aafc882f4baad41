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
    """What a run is given at a step: numbers of rule and loss, which examples, and where its noise comes from.

    ``own`` holds the columns of the data that are this run's alone (noisy labels), ``mask`` where its parameters
    are, in a program that is wider than the run.
    """

    h: dict[str, Tensor]
    loss_h: dict[str, Tensor]
    examples: Tensor
    seed: Tensor
    step: Tensor
    own: Batch
    mask: Tree

    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors, in the order in which they are flattened."""
        first = (*self.h.values(), *self.loss_h.values(), self.examples, self.seed, self.step)
        return (*first, *self.own.values(), *self.mask.values())


Told: TypeAlias = dict[str, Tensor]
MEASURED = ("gradient_norm", "update_ratio")
Step: TypeAlias = Callable[[Carry, Inputs, Batch], tuple[Carry, Told]]
Evaluate: TypeAlias = Callable[[Carry, dict[str, Tensor], Tensor, Tensor, Batch], Told]


def one_step(task: Task, rule: Rule) -> Step:
    """The function that takes one run one step further.

    It tells the training loss, whether the run is still alive (its loss and its parameters have been finite so far),
    the gradient's norm, and the size of the step relative to the parameters. A step that only needs the first two
    leaves out the rest of the program.
    """

    def step(carry: Carry, given: Inputs, columns: Batch) -> tuple[Carry, Told]:
        batch = {name: column[given.examples] for name, column in {**columns, **given.own}.items()}

        def loss(params: Tree) -> tuple[Tensor, Tree]:
            return task.loss(params, carry.buffers, batch, given.loss_h)

        with Noise(given.seed, given.step):
            gradient, (value, buffers) = grad_and_value(loss, has_aux=True)(carry.params)
        gradient = _masked(gradient, given.mask)
        direction, state, _ = rules.update(rule, gradient, carry.state, carry.params, given.h)
        direction = _masked(direction, given.mask)
        params = {k: p + direction[k] for k, p in carry.params.items()}
        alive = carry.alive & torch.isfinite(value + total(params))
        measured = (norm(gradient), norm(direction) / norm(carry.params))
        told = {"train_loss": value, "alive": alive, **dict(zip(MEASURED, measured, strict=True))}
        return Carry(params, buffers, state, alive), told

    return step


def _masked(tree: Tree, mask: Tree) -> Tree:
    """Zeros where a tensor is padding; no product, which would turn infinite entries into NaN."""
    return {name: torch.where(mask[name], t, 0.0) if name in mask else t for name, t in tree.items()}


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
