"""From text to a rule: ``adam``, ``adam(lr=0.01)``, ``chain(clip_norm(1.0), adam(lr=0.01))``."""

from __future__ import annotations

import ast
from typing import Any

from .. import specs
from ..errors import BadRule, NotFound, nearest
from ..specs import Axis, Rule
from .base import behavior


def parse(text: str, points: int = 9) -> Rule:
    """The rule that a text names. A name alone is the rule with its learning rate to be tuned over ``points`` values.

    >>> parse("sgd(lr=0.1)")
    sgd(lr=0.1)
    >>> sorted(specs.axes(parse("adam")))
    ['lr']
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise BadRule(f"{text!r} is not a rule: write a name such as adam, or adam(lr=0.01)") from None
    return _rule(tree, text, points)


def to_tune(rule: Rule, points: int) -> Rule:
    """A named rule with what it declares to be tuned as axes of ``points`` values."""
    found = {name: specs.log_axis(low, high, points) for name, (low, high) in behavior(rule).search.items()}
    tuned: Rule = rule.replace(**found)
    return tuned


def _rule(node: ast.AST, text: str, points: int) -> Rule:
    if isinstance(node, ast.Name):
        return to_tune(_make(node.id, text)(), points)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        args = [_value(arg, text, points) for arg in node.args]
        named = {str(k.arg): _value(k.value, text, points) for k in node.keywords}
        try:
            rule: Rule = _make(node.func.id, text)(*args, **named)
        except TypeError as error:
            raise BadRule(f"{text!r} is not a rule: {error}") from None
        return rule
    raise BadRule(f"{text!r} is not a rule: write a name such as adam, or adam(lr=0.01)")


def _make(kind: str, text: str) -> Any:
    kinds = specs.kinds(Rule)
    if kind not in kinds:
        raise NotFound(f"no rule is called {kind!r}; {nearest(kind, named())}")
    return behavior(Rule(kind)).make


def named() -> list[str]:
    """The names of all named rules."""
    return [kind for kind in specs.kinds(Rule) if behavior(Rule(kind)).named]


def _value(node: ast.AST, text: str, points: int) -> Any:
    if isinstance(node, ast.Call) or (isinstance(node, ast.Name) and node.id in specs.kinds(Rule)):
        return _rule(node, text, points)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        raise BadRule(f"{ast.unparse(node)!r} in {text!r} is not a number: write adam(lr=0.01)") from None
    return Axis(tuple(value)) if isinstance(value, (tuple, list)) else value
