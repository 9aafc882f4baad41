"""Conditions on parameters, as text: by name, shape, type, the module that holds them, or a function."""

from __future__ import annotations

import ast
import fnmatch
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torch import nn

from ..errors import BadRule, BadValue, nearest
from ..registry import load
from ..types import Tree

TYPES = ("embedding", "norm", "bias", "matrix", "kernel", "other")
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_START = "where("


class Fact(NamedTuple):
    """What is known of a parameter.

    Args:
        name, shape: as the model has them.
        type: one of ``TYPES``; empty where the model is not known.
        modules: the class of the module that holds it, and the classes that this one is made from.
    """

    name: str
    shape: tuple[int, ...]
    type: str = ""
    modules: tuple[str, ...] = ()

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def where(
    *,
    name: str | None = None,
    ndim: int | None = None,
    shape: tuple[int | None, ...] | None = None,
    type: str | None = None,
    module: str | None = None,
    predicate: Callable[[str, tuple[int, ...]], bool] | str | None = None,
    names: Iterable[str] | None = None,
) -> str:
    """A condition on parameters, for ``fl.route``; all that is given must hold: where = name ∧ ndim ∧ … ∧ names.

    It is text, so that a rule with it prints, compares and is stored. Texts are patterns as in file names, with
    ``|`` between alternatives and ``!`` in front of what must not be, as in ``name="!head.*|*.bias"``.

    Args:
        name: a pattern of the parameter's name.
        ndim: how many axes it has.
        shape: its shape, with None for any size.
        type: ``embedding``, ``norm`` (all that a normalization holds), ``bias``, ``matrix`` (two axes), ``kernel`` (more
            than two) or ``other``; the first that fits. It needs the model: ``fl.optim.Optimizer(model, rule)``.
        module: a pattern of the class that holds it, or of one that this is made from, such as ``"Linear"``; it needs
            the model, too.
        predicate: a function ``(name, shape) → bool``, or the text ``"module:function"`` that names one.
        names: exactly these; conditions become such once a model is known.

    >>> where(ndim=2, name="!head.*")
    "where(name='!head.*', ndim=2)"
    >>> from fallline import rules
    >>> rule = rules.route({where(ndim=2): rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.01))
    >>> rule.options["patterns"]
    ('where(ndim=2)', '*')

    Source: the masks and labels of optax, as data.
    """
    given: dict[str, Any] = {
        "name": name,
        "ndim": ndim,
        "shape": shape if shape is None else tuple(shape),
        "type": type,
        "module": module,
    }
    found = {key: value for key, value in given.items() if value is not None}
    if predicate is not None:
        found["predicate"] = predicate if isinstance(predicate, str) else _address(predicate)
    if names is not None:
        found["names"] = tuple(names)
    _check(found)
    return f"{_START}{', '.join(f'{key}={value!r}' for key, value in found.items())})"


def _check(found: Mapping[str, Any]) -> None:
    if not found:
        raise BadValue('where() needs a condition, such as ndim=2 or name="*.weight"')
    known = found.get("type", "*").removeprefix("!").split("|")
    for one in known:
        if not any(fnmatch.fnmatchcase(each, one) for each in TYPES):
            raise BadValue(f"where(type={found['type']!r}): no type is called {one!r}; {nearest(one, TYPES)}")


def _address(predicate: Any) -> str:
    """Where a function is found again."""
    module, name = getattr(predicate, "__module__", None), getattr(predicate, "__qualname__", "<")
    if not module or module == "__main__" or "<" in name or "." in name:
        raise BadValue(
            f"where(predicate={predicate!r}): a rule is stored as text, and this function has no name by which it is "
            "found again; put it into a module of its own, or give it to route itself, {function: rule}, in fl.optim"
        )
    return f"{module}:{name}"


# --- what is known of parameters ------------------------------------------------------------------------------


def facts(params: Tree, module: nn.Module | None = None) -> tuple[Fact, ...]:
    """What is known of these parameters, and of where they stand in a model.

    >>> facts({"0.weight": nn.Linear(3, 2).weight}, nn.Sequential(nn.Linear(3, 2)))
    (Fact(name='0.weight', shape=(2, 3), type='matrix', modules=('Linear', 'Module')),)
    """
    found = {name: Fact(name, tuple(p.shape)) for name, p in params.items()}
    for path, owner in module.named_modules() if module is not None else ():
        classes = tuple(c.__name__ for c in type(owner).__mro__ if c is not object)
        for last, _ in owner.named_parameters(recurse=False):
            name = f"{path}.{last}" if path else last
            if name in found:
                shape = found[name].shape
                found[name] = Fact(name, shape, _type(last, shape, owner), classes)
    return tuple(found.values())


def _type(name: str, shape: tuple[int, ...], owner: nn.Module) -> str:
    if isinstance(owner, EMBEDDINGS):
        return "embedding"
    if any("Norm" in c.__name__ for c in type(owner).__mro__):
        return "norm"
    if "bias" in name:
        return "bias"
    return {0: "other", 1: "other", 2: "matrix"}.get(len(shape), "kernel")


# --- whether a condition holds --------------------------------------------------------------------------------


def is_condition(pattern: Any) -> bool:
    """Whether this is the text of a condition, and not a pattern of names."""
    return isinstance(pattern, str) and pattern.startswith(_START)


def holds(pattern: Any, fact: Fact) -> bool:
    """Whether a pattern of names, a condition or a function holds for a parameter."""
    if callable(pattern):
        return bool(pattern(fact.name, fact.shape))
    if not is_condition(pattern):
        return fnmatch.fnmatchcase(fact.name, pattern)
    return all(_TESTS[key](wanted, fact) for key, wanted in _read(pattern).items())


@functools.lru_cache(maxsize=256)
def _read(text: str) -> dict[str, Any]:
    """The conditions in a text."""
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert not call.args
        found = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        assert set(found) <= set(_TESTS)
    except (SyntaxError, ValueError, AssertionError):
        raise BadRule(f"{text!r} is not a condition: write fl.rules.where with {', '.join(_TESTS)}") from None
    _check(found)
    return found


def _like(wanted: str, texts: Iterable[str]) -> bool:
    alternatives = wanted.removeprefix("!").split("|")
    found = any(fnmatch.fnmatchcase(text, one) for text in texts for one in alternatives)
    return found != wanted.startswith("!")


def _shaped(wanted: Any, fact: Fact) -> bool:
    return len(wanted) == len(fact.shape) and all(
        a in (None, b) for a, b in zip(wanted, fact.shape, strict=True)
    )


def _of_model(key: str, wanted: str, fact: Fact) -> bool:
    if not fact.type:
        raise BadRule(
            f"where({key}={wanted!r}) asks where {fact.name!r} stands in a model, and there are only parameters: give "
            "the model, as in fl.optim.Optimizer(model, rule), or settle the rule by fl.rules.fit(rule, model)"
        )
    return _like(wanted, [fact.type] if key == "type" else fact.modules)


_TESTS: dict[str, Callable[[Any, Fact], bool]] = {
    "name": lambda wanted, fact: _like(wanted, [fact.name]),
    "ndim": lambda wanted, fact: fact.ndim == wanted,
    "shape": _shaped,
    "type": functools.partial(_of_model, "type"),
    "module": functools.partial(_of_model, "module"),
    "predicate": lambda wanted, fact: bool(load(wanted)(fact.name, fact.shape)),
    "names": lambda wanted, fact: fact.name in wanted,
}
