"""All policies by name, and how they are written down as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ...errors import NotFound, nearest
from .board import Policy
from .policies import halving, hyperband, median_rule, patience
from .populations import population

POLICIES: dict[str, Callable[..., Policy]] = {
    made.__name__: made for made in (halving, hyperband, median_rule, patience, population)
}


def plain(policy: Any) -> dict[str, Any]:
    """A policy as JSON can hold it.

    >>> plain(halving(eta=3, first=10))
    {'prune': 'halving', 'eta': 3, 'first': 10, 'metric': 'score'}
    """
    given = {f.name: getattr(policy, f.name) for f in fields(policy)}
    lists = {name: list(value) for name, value in given.items() if isinstance(value, tuple)}
    return {"prune": type(policy).__name__, **given, **lists}


def rebuild(data: Mapping[str, Any]) -> Policy:
    """The policy that :func:`plain` wrote down.

    >>> rebuild({"prune": "patience", "evaluations": 5})
    patience(evaluations=5, least=0.0, metric='score')
    """
    given = dict(data)
    name = given.pop("prune", "")
    if name not in POLICIES:
        raise NotFound(f"no way to prune is called {name!r}; {nearest(str(name), POLICIES)}")
    return POLICIES[name](**given)
