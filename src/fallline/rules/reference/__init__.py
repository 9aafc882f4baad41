"""Slow, literal twins of the named rules, for tests and pages only: numpy in float64, one loop over time.

Each named rule has a file here with the formula as the slide or the paper has it, written without a look at the
rule. A twin of a rule that trains yields the weights after each step, for gradients that are given:

    adam(weights, gradients, *, lr, beta1, beta2, eps) → weights, weights, …

A twin that only changes gradients yields those, and a twin of a wrapper yields what is to be evaluated:

    clip_norm(gradients, *, max_norm) → gradients, …      average(path, *, decay) → weights, …  (path[0] the start)

Weights and gradients are lists of arrays. A number is a float, a sequence by step, or a function of the step
counted from 0. :func:`follow` does so for rules made of rules.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ...errors import NotFound
from ...specs import Rule, Schedule
from .numbers import Arrays

__all__ = ["Arrays", "follow", "twin"]


def twin(kind: str) -> Callable[..., Iterator[Arrays]]:
    """The slow twin of a kind of rule.

    >>> twin("adam").__name__
    'adam'
    """
    try:
        module = importlib.import_module(f"{__name__}.{kind}")
    except ModuleNotFoundError:
        raise NotFound(f"{kind} has no slow twin: write rules/reference/{kind}.py from its source") from None
    found: Callable[..., Iterator[Arrays]] = getattr(module, kind)
    return found


def follow(
    rule: Rule, weights: Arrays, gradients: Iterable[Arrays], oracles: Sequence[Any] = ()
) -> Iterator[Arrays]:
    """The weights to evaluate after each step of a rule, by the twins of what it is made of.

    In a chain, all but the last rule change gradients, and the last one trains. A twin that asks for more than
    gradients takes ``oracles``, from the weights of a step to what is asked for.
    """
    if rule.kind == "chain":
        for child in rule.children[:-1]:
            gradients = twin(child.kind)(gradients, **_numbers(child))
        return follow(rule.children[-1], weights, gradients, oracles)
    if rule.children:
        path = itertools.chain([weights], follow(rule.children[0], weights, gradients, oracles))
        return twin(rule.kind)(path, **_numbers(rule))
    own = twin(rule.kind)
    asked = {"oracles": oracles} if "oracles" in inspect.signature(own).parameters else {}
    return own(weights, gradients, **_numbers(rule), **asked)


def _numbers(rule: Rule) -> dict[str, Any]:
    return {name: n.at if isinstance(n, Schedule) else n for name, n in rule.numbers.items()}
