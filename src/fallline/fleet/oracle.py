"""What a rule may ask about a step beyond its gradient, for one run: pure functions of its variables and its batch.

Everything is asked of ``task.loss`` and of the task's module alone, and each answer is computed on the same batch with
the same noise: the counters of the noise begin anew. The outputs of the module are read, or replaced, by a hook, so
that the loss is seen as a function of the parameters, of the outputs, or of what is added to the outputs of layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, func, nn
from torch.func import grad, grad_and_value

from ..errors import BadTask
from ..rng import Noise, fold, uniform
from ..rules import Oracle
from ..tasks.base import Batch, Task
from ..types import Numbers, Tree
from .taps import Taps, moments

LABELS, NORMAL = 1 << 40, 1 << 41
"""Call sites of the noise by which a sampled Fisher draws, where no model comes to."""


@dataclass(frozen=True)
class Question:
    """A step of one run, of which things are asked.

    Args:
        task: what is trained.
        params, buffers, batch, h: what its loss is given.
        seed, step: where its noise comes from.
        masked: brings a gradient to the shape of the run, where the program is wider.
    """

    task: Task
    params: Tree
    buffers: Tree
    batch: Batch
    h: Numbers
    seed: Tensor
    step: Tensor
    masked: Callable[[Tree], Tree]

    def oracle(self, value: Tensor) -> Oracle:
        """The answers, each computed when it is asked for."""
        return Oracle(value, self.grad_at, self.fisher_vp, self.kron_factors)

    def loss(self, params: Tree) -> Tensor:
        """The loss of the step at some parameters."""
        with Noise(self.seed, self.step):
            return self.task.loss(params, self.buffers, self.batch, self.h)[0]

    def grad_at(self, params: Tree) -> tuple[Tree, Tensor]:
        """The gradient and the loss at some parameters."""
        gradient, value = grad_and_value(self.loss)(params)
        return self.masked(gradient), value

    # --- outputs ------------------------------------------------------------------------------------------

    @property
    def module(self) -> nn.Module:
        """The model whose outputs are looked at."""
        if self.task.module is None:
            raise BadTask(
                f"the Fisher matrix is that of a model's outputs, and {self.task.name} has no model: train it with a rule "
                "that asks for gradients alone, such as fl.rules.lbfgs() or fl.rules.adam()"
            )
        return self.task.module

    def outputs(self, params: Tree) -> Tensor:
        """What the model gives for the batch."""
        seen: list[Tensor] = []
        with hooked(self.module, lambda module, args, out: seen.append(out)):
            self.loss(params)
        return seen[0]

    def loss_of(self, outputs: Tensor, batch: Batch | None = None) -> Tensor:
        """The loss, were these the outputs; of other targets, where the batch is another."""
        own = self if batch is None else Question(**{**vars(self), "batch": batch})
        with hooked(self.module, lambda module, args, out: outputs):
            return own.loss(self.params)

    # --- the Fisher matrix --------------------------------------------------------------------------------

    def fisher_vp(self, kind: str) -> Callable[[Tree], Tree]:
        """The product of the Fisher matrix with a tree: Jᵀ·H·J·v, with H the Fisher matrix of the outputs.

        exact takes the curvature of the loss in the outputs for H, which it equals for a likelihood in natural
        parameters: cross-entropy of logits, squares. The others take N·u·uᵀ for each of N examples, u the gradient of
        the mean loss by the outputs. J·v is what turns Jᵀ·u round, so that reverse mode is enough.
        """
        outputs, back = vjp(self.outputs, self.params)
        _, forth = vjp(lambda u: vjp(self.outputs, self.params)[1](u)[0], torch.zeros_like(outputs))
        bend = vjp(grad(self.loss_of), outputs)[1] if kind == "exact" else None
        slope = self.slopes(kind, outputs)[0] if bend is None else outputs

        def product(v: Tree) -> Tree:
            (moved,) = forth(v)
            if bend is not None:
                (bent,) = bend(moved)
            else:
                along = (slope * moved).flatten(1).sum(1) if moved.ndim > 1 else slope * moved
                bent = len(slope) * slope * along.reshape(-1, *(1 for _ in slope.shape[1:]))
            (found,) = back(bent)
            return self.masked(found)

        return product

    def slopes(self, kind: str, outputs: Tensor) -> list[Tensor]:
        """Gradients u of the mean loss by the outputs, with N · Σ u·uᵀ the Fisher matrix of each example's outputs."""
        if kind == "empirical":
            return [grad(self.loss_of)(outputs)]
        target = self.batch.get("target")
        if target is not None and not target.is_floating_point():
            return self._slopes_of_classes(kind, outputs, target)
        (bend,) = vjp(grad(self.loss_of), outputs)[1](torch.ones_like(outputs))
        spread = (bend.clamp(min=0.0) / len(outputs)).sqrt()
        if kind == "sampled":
            inside = uniform(fold(fold(self.seed, self.step), NORMAL), tuple(outputs.shape), torch.float64)
            return [spread * torch.special.ndtri(inside + 2.0**-54).to(outputs.dtype)]
        flat = spread.flatten(1)
        each = torch.eye(flat.shape[1], dtype=flat.dtype, device=flat.device)
        return [(flat * row).reshape(outputs.shape) for row in each]

    def _slopes_of_classes(self, kind: str, outputs: Tensor, target: Tensor) -> list[Tensor]:
        """For classes the targets themselves are averaged over, or drawn from the model's probabilities."""
        by_label = grad(lambda z, label: self.loss_of(z, {**self.batch, "target": label}))
        if kind == "sampled":
            key = fold(fold(self.seed, self.step), LABELS)
            noise = uniform(key, tuple(outputs.shape), torch.float64) + 2.0**-54
            drawn = (outputs.double().log_softmax(1) - (-noise.log()).log()).argmax(1)
            return [by_label(outputs, drawn.to(target.dtype))]
        if outputs.ndim != 2:
            raise BadTask(
                f"the exact factors of {self.task.name} would need a gradient for each of {list(outputs.shape[1:])} outputs: "
                'use kfac(fisher="sampled")'
            )
        shares = outputs.softmax(1)
        return [
            shares[:, c : c + 1].sqrt() * by_label(outputs, torch.full_like(target, c))
            for c in range(outputs.shape[1])
        ]

    # --- Kronecker factors --------------------------------------------------------------------------------

    def kron_factors(self, kind: str) -> Mapping[str, tuple[Tensor, Tensor]]:
        """The factors (A, G) of each layer that uses a weight: of its inputs, and of the gradients of its outputs."""
        first = Taps(self.params)
        with first:
            outputs = self.outputs(self.params)
        zero = {name: torch.zeros_like(z) for name, z in first.outputs.items()}

        def bent(added: Tree) -> Tensor:
            with Taps(self.params, added):
                return self.outputs(self.params)

        _, back = vjp(bent, zero)
        slopes = [back(u)[0] for u in self.slopes(kind, outputs)]
        return {
            weight: moments(
                calls, [{call.name: u[call.name] for call in calls} for u in slopes], len(outputs)
            )
            for weight, calls in first.calls.items()
        }


def vjp(function: Callable[..., Any], *given: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """What a function gives, and the product of a vector with its Jacobian."""
    found: Any = func.vjp(function, *given)
    return found[0], found[1]


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Inside, a hook looks at what the module gives, or gives something else."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
