"""What a closure tells a rule that asks for more than the gradient: the loss, and gradients at other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import BadRule
from ..rules import Oracle, needs
from ..specs import Rule
from ..types import Tree
from .plan import real

TOLD = frozenset({"value", "grad_at"})
"""What a closure can be asked for."""


class Closure:
    """A function that computes the gradients anew, called as often as a rule asks, each time with the same noise.

    Args:
        function: clears the gradients, computes the loss, calls ``backward()`` and returns the loss; or None.
    """

    def __init__(self, function: Callable[[], Any] | None) -> None:
        self.function = function
        self.noise: Any = None
        self.value: Any = None
        self.last: tuple[Tree, tuple[Tree, Tensor]] | None = None

    def first(self) -> Any:
        """The loss at the parameters as they are; None without a function."""
        if self.function is None:
            return None
        self.noise = _noise()
        with torch.enable_grad():
            self.value = self.function()
        return self.value

    def oracle(self, rule: Rule, params: Tree, uphill: frozenset[str]) -> Oracle | None:
        """The answers for a rule, or a sentence where there is nobody to ask; None where it asks nothing."""
        if not needs(rule):
            return None
        if self.function is None:
            raise BadRule(
                f"{rule!r} needs {', '.join(sorted(needs(rule)))} beside the gradient: call optimizer.step(closure), where "
                "closure clears the gradients, computes the loss, calls backward() and returns the loss"
            )
        sign = -1.0 if uphill else 1.0
        self.last = None

        def grad_at(there: Tree) -> tuple[Tree, Tensor]:
            gradient, value = self._at(params, there)
            return {name: -g if name in uphill else g for name, g in gradient.items()}, sign * value

        return Oracle(sign * number(self.value), grad_at)

    def _at(self, params: Tree, there: Tree) -> tuple[Tree, Tensor]:
        """Gradient and loss at other parameters, looked up where they were the last that were asked for."""
        if self.last is not None and all(torch.equal(there[name], self.last[0][name]) for name in params):
            return self.last[1]
        found = self._computed(params, there)
        self.last = {name: there[name].detach().clone() for name in params}, found
        return found

    def _computed(self, params: Tree, there: Tree) -> tuple[Tree, Tensor]:
        """Gradient and loss at other parameters; afterwards all is as before."""
        assert self.function is not None
        kept = {name: (p.detach().clone(), p.grad) for name, p in params.items()}
        with _restored(self.noise):
            for name, p in params.items():
                real(p).copy_(there[name])
                p.grad = None
            with torch.enable_grad():
                value = self.function()
            found = {
                n: real(torch.zeros_like(p) if p.grad is None else p.grad.clone()) for n, p in params.items()
            }
            for name, p in params.items():
                p.copy_(kept[name][0])
                p.grad = kept[name][1]
        return found, number(value)


def number(loss: Any) -> Tensor:
    """The loss that a closure returned, without its graph."""
    if loss is None:
        raise BadRule(
            "the closure returned None, and the rule asks for the loss: end the closure in `return loss`"
        )
    found: Tensor = torch.as_tensor(loss).detach()
    return found


def _noise() -> Any:
    """Where torch's generators stand."""
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), on_gpu


@contextmanager
def _restored(noise: Any) -> Iterator[None]:
    """Inside, torch's generators stand where they stood before; afterwards where they stand now."""
    now = _noise()
    _set(noise)
    try:
        yield
    finally:
        _set(now)


def _set(noise: Any) -> None:
    torch.set_rng_state(noise[0])
    if noise[1] is not None:
        torch.cuda.set_rng_state_all(noise[1])
