"""What is given to a function that makes a rule: arguments by name, defaults, numbers in their domains."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

from torch import Tensor

from ..errors import BadValue, nearest
from ..specs import Domain, Rule
from .base import PerParameter

P = ParamSpec("P")


def signature_of(*names: str) -> inspect.Signature:
    """The signature of a function that takes these arguments, by place or by name."""
    return inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    )


def bound(
    kind: str, signature: inspect.Signature, args: tuple[Any, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments by name, defaults filled in; or a sentence about what the rule takes."""
    names = list(signature.parameters)
    for name in given:
        if name not in names:
            raise BadValue(
                f"{kind} takes {', '.join(names) or 'no arguments'}, got {name!r}; {nearest(name, names)}"
            )
    try:
        found = signature.bind(*args, **given)
    except TypeError as wrong:
        raise BadValue(f"{kind} takes {', '.join(names) or 'no arguments'}: {wrong}") from None
    found.apply_defaults()
    return dict(found.arguments)


def checking(**domains: Domain) -> Callable[[Callable[P, Rule]], Callable[P, Rule]]:
    """Refuse what a function that makes a rule does not take, and numbers outside of their domains."""

    def decorate(body: Callable[P, Rule]) -> Callable[P, Rule]:
        kind, signature = body.__name__, inspect.signature(body)

        @functools.wraps(body)
        def make(*args: P.args, **given: P.kwargs) -> Rule:
            return body(**checked(kind, domains, bound(kind, signature, args, given)))  # type: ignore[call-arg]

        return make

    return decorate


def checked(kind: str, domains: Mapping[str, Domain], given: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers given to a rule, each in its domain; tensors are data of a fleet and cannot be looked at."""
    for name, value in given.items():
        for each in value.values.values() if isinstance(value, PerParameter) else (value,):
            if name in domains and not isinstance(each, Tensor):
                domains[name].check(kind, name, each)
    return dict(given)
