"""Wrappers around a rule, written for one tensor: what is done with the step that the inner rule takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..specs import Domain, Rule
from ..types import Numbers, Tree
from .compose import Held, wrap
from .making import One, Start, held_by, own

Seen = Callable[[Tensor, Any], Tensor]


def same(p: Tensor, h: Any) -> Tensor:
    """A state tensor that starts at the parameter."""
    return p.clone()


def around(
    *, state: Mapping[str, Start], evaluate: Seen | None = None, elementwise: bool = True, **domains: Domain
) -> Callable[[One], Callable[..., Rule]]:
    """Make a wrapper from ``after_one(d, s, p, h) → (d, s)``, written for one tensor, d the inner rule's step.

    Args:
        state: how each state tensor ``s.name`` starts, as a function of the parameter and ``h``.
        evaluate: ``(p, s) → what to evaluate``, where that is not what is trained.
        elementwise: whether each entry is treated alone.
        **domains: the hyperparameters ``h.name``, in order, with what they may be.
    """

    def start(params: Tree, h: Numbers) -> Held:
        return {
            name: {key: begin(p, own(h, name)) for key, begin in state.items()} for name, p in params.items()
        }

    def decorate(after_one: One) -> Callable[..., Rule]:
        def after(step: Tree, held: Held, params: Tree, h: Numbers) -> tuple[Tree, Held]:
            both = {
                name: after_one(d, held_by(held[name]), params[name], own(h, name))
                for name, d in step.items()
            }
            return {name: d for name, (d, _) in both.items()}, {
                name: kept for name, (_, kept) in both.items()
            }

        def seen(params: Tree, held: Held) -> Tree:
            assert evaluate is not None
            return {
                name: evaluate(p, held_by(held[name])) if held.get(name) else p for name, p in params.items()
            }

        return wrap(
            after_one.__name__, start=start, after=after, evaluate=seen if evaluate else None,
            elementwise=elementwise, each=True, doc=after_one.__doc__ or "", **domains,
        )  # fmt: skip

    return decorate
