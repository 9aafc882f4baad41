"""What each kind of rule, schedule and loss does, found by the kind's name."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import NotFound, nearest

_behaviors: dict[tuple[str, str], Any] = {}


def register(family: Any, kind: str, behavior: Any) -> None:
    """Say what a kind does. A custom kind is named ``module:function``, so that it can be found again."""
    _behaviors[family.family, kind] = behavior


def kinds(family: Any) -> list[str]:
    """The names of all registered kinds of a family."""
    return sorted(kind for name, kind in _behaviors if name == family.family)


def check(spec: Any, path: str, value: Any) -> None:
    """Refuse what the number at a path of a value cannot be, where its kind says what it may be.

    A tensor passes: it is a number as data, inside of a program.
    """
    child, _, rest = path.partition(".")
    if rest:
        check(spec.children[int(child)], rest, value)
        return
    domain = getattr(_behaviors.get((spec.family, spec.kind)), "domains", {}).get(path)
    if domain is not None and not hasattr(value, "dtype"):
        domain.check(spec.kind, path, value)


def behavior(spec: Any) -> Any:
    """What is registered for a value's kind; a kind ``module:function`` is imported first."""
    key = (spec.family, spec.kind)
    if key not in _behaviors and ":" in spec.kind:
        importlib.import_module(spec.kind.split(":")[0])
    if key not in _behaviors:
        raise NotFound(f"no {spec.family} is called {spec.kind!r}; {nearest(spec.kind, kinds(type(spec)))}")
    return _behaviors[key]


def load(text: str) -> Any:
    """The function that ``module:function`` names.

    >>> load("math:sqrt")(4.0)
    2.0
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise NotFound(
            f"no function is found at {text!r}: write module:function, with the module where Python finds it"
        ) from None
