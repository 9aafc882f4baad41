"""L-BFGS with torch's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import BadRule, BadValue
from ..rules import chain, descend, precondition_by_history, search_line
from ..rules.base import RATE
from ..specs import Domain, Rule
from .closure import Closure, number
from .form import Form
from .plan import Group, Part, real
from .shell import Shell

SMALL = Domain("the size below which it ends", low=0.0)
LBFGS_DOMAINS = {"lr": RATE, "tolerance_grad": SMALL, "tolerance_change": SMALL}
TRIALS = 25


class LBFGS(Shell):
    """Newton's method by memory: up to ``max_iter`` iterations a step of w ← w − lr · H·g, as in ``fl.rules.lbfgs``.

    Args:
        params: parameters of one group, or ``model.named_parameters()``.
        lr: the length of an iteration, or the first one that a line search tries; at least 0.
        max_iter: iterations a step.
        max_eval: calls of the closure a step, after which no iteration begins; None for 1.25 · max_iter.
        tolerance_grad: the largest entry of the gradient at which it ends; at least 0.
        tolerance_change: the change of loss or parameters at which it ends; at least 0.
        history_size: how many moves and changes of the gradient are remembered.
        line_search_fn: strong_wolfe, or None for steps of lr.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    >>> optimizer = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w**2 * torch.tensor([1.0, 10.0])).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> bool(w.abs().max() < 1e-3)
    True

    Source: ``torch.optim.LBFGS``, which it equals without a line search. With one, the lengths that are tried are
    those of ``fl.rules.search_line``, at most 25, and not torch's.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        given = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn, "maximize": False,
        }  # fmt: skip
        super().__init__(params, given, Form("LBFGS", lbfgs, LBFGS_DOMAINS))
        if len(self.param_groups) > 1:
            raise BadValue(
                f"LBFGS takes one parameter group, got {len(self.param_groups)}: its memory is of all parameters together"
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Take up to ``max_iter`` iterations.

        Args:
            closure: clears the gradients, computes the loss, calls ``backward()`` and returns the loss.
            max_norm: refused, as a line search needs the gradients of the loss itself.
        """
        if max_norm is not None:
            raise BadRule(
                f"LBFGS.step(max_norm={max_norm}): a line search needs the gradients as they are, not clipped ones"
            )
        if closure is None:
            raise BadRule(
                "LBFGS needs the loss several times a step: call optimizer.step(closure), where closure clears the "
                "gradients, computes the loss, calls backward() and returns the loss"
            )
        calls = _Counted(closure)
        group, asked = self.param_groups[0], Closure(calls)
        first = loss = asked.first()
        self.info = {}
        for iteration in range(group["max_iter"]):
            if _largest(group) <= group["tolerance_grad"]:
                break
            self._refuse_two_hands()
            (part,) = self._plan.parts(self.param_groups, self._named())
            moved = self._iterate(part, asked, group)
            before = float(number(loss))
            if moved is None or iteration + 1 == group["max_iter"]:
                break
            loss = asked.first()
            small = (
                moved <= group["tolerance_change"]
                or abs(float(number(loss)) - before) < group["tolerance_change"]
            )
            if calls.made >= group["max_eval"] or small:
                break
        self._keep(steps=self.steps + 1)
        self._show()
        return first

    def _iterate(self, part: Part, asked: Closure, group: Group) -> float | None:
        """One iteration, and the largest change of a parameter; None where the direction leads nowhere, and is left."""
        held = [
            (real(p), real(p).detach().clone(), real(p.grad))
            for p in part.params.values()
            if p.grad is not None
        ]
        fresh = all(
            float(self.state.get(p, {}).get("0.t", 0)) == 0
            for p in part.params.values()
            if p.grad is not None
        )
        self._advance(part, asked)
        slope, total, largest = 0.0, 0.0, 0.0
        for p, before, g in held:
            if not p.numel():
                continue
            slope += float(((p - before) * g).sum())
            total += float(g.abs().sum())
            largest = max(largest, float((p - before).abs().max()))
        length = float(group["lr"]) * (min(1.0, 1 / total) if fresh and total else 1.0)
        if group["line_search_fn"] is None and length and slope / length > -group["tolerance_change"]:
            for p, before, _ in held:
                p.copy_(before)
            return None
        return largest


class _Counted:
    """A closure that counts its calls."""

    def __init__(self, closure: Callable[[], Any]) -> None:
        self.closure, self.made = closure, 0

    def __call__(self) -> Any:
        self.made += 1
        return self.closure()


def _largest(group: Group) -> float:
    sizes: list[Tensor] = [
        real(p.grad).abs().max() for p in group["params"] if p.grad is not None and p.numel()
    ]
    return max((float(size) for size in sizes), default=0.0)


def lbfgs(group: Group) -> Rule:
    """The rule of one iteration of ``LBFGS``."""
    newton = precondition_by_history(group["history_size"])
    if group["line_search_fn"] is None:
        return chain(newton, descend(group["lr"]))
    if group["line_search_fn"] != "strong_wolfe":
        raise BadValue(f"LBFGS(line_search_fn={group['line_search_fn']!r}): it is strong_wolfe or None")
    return chain(newton, search_line(group["lr"], 0.9, "strong_wolfe", TRIALS))
