"""One rule for the parameters that it fits, another for the rest: by shape, and by what a name says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from .. import specs
from ..specs import Rule
from ..types import Info, Numbers, State, Tree
from .asking import check_option
from .base import RATE, Behavior, Draw, Oracle, Stage, init, passes, update, view
from .compose import all_rules, child_state, joined_state
from .routing import SPLITS
from .scaling import descend
from .spectra import is_matrix

Select: TypeAlias = Callable[[Mapping[str, Tensor]], list[str]]

AT_THE_ENDS = re.compile(
    r"(^|[._])(\w*embed\w*|emb|wte|wpe|tok|pos|\w*head|heads|classifier|unembed|logits|output_layer)([._]|$)",
    re.IGNORECASE,
)
"""What embeddings and output layers are called: where a step of all directions alike is not what helps."""


def matrices(params: Mapping[str, Tensor]) -> list[str]:
    """Parameters with two axes or more; a kernel is a matrix of outputs by all that stands behind them."""
    return [name for name, p in params.items() if is_matrix(p)]


def hidden_matrices(params: Mapping[str, Tensor]) -> list[str]:
    """Matrices that are, by their names, neither an embedding nor an output layer.

    >>> import torch
    >>> names = ("embed.weight", "blocks.0.fc.weight", "blocks.0.fc.bias", "lm_head.weight")
    >>> hidden_matrices({n: torch.ones(3) if "bias" in n else torch.ones(3, 3) for n in names})
    ['blocks.0.fc.weight']
    """
    return [name for name in matrices(params) if not AT_THE_ENDS.search(name)]


def pairs(params: Mapping[str, Tensor]) -> dict[str, str | None]:
    """The weights of linear layers and convolutions by their names, each with its bias where it has one.

    >>> import torch
    >>> pairs({"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2), "1.weight": torch.ones(4)})
    {'0.weight': '0.bias'}
    """
    found: dict[str, str | None] = {}
    for name, p in params.items():
        if name.endswith("weight") and p.ndim in (2, 4) and p.numel() and "embed" not in name.lower():
            bias = name.removesuffix("weight") + "bias"
            found[name] = bias if bias in params and params[bias].shape == p.shape[:1] else None
    return found


def layers(params: Mapping[str, Tensor]) -> list[str]:
    """The weights of :func:`pairs`, and their biases."""
    known = pairs(params)
    taken = {*known, *(bias for bias in known.values() if bias)}
    return [name for name in params if name in taken]


SELECTORS: dict[str, Select] = {f.__name__: f for f in (hidden_matrices, matrices, layers)}


def select(which: str, rule: Rule, otherwise: Rule) -> Rule:
    """Give the parameters that a rule fits to it, and the rest to another: step[w] = rule(g)[w] or otherwise(g)[w].

    Args:
        which: hidden_matrices (two axes or more, neither an embedding nor an output layer by its name), matrices
            (all of two axes or more) or layers (weights of linear layers and convolutions, with their biases). An
            embedding has embed, emb, wte, wpe, tok or pos in its name, an output layer head, classifier, unembed,
            logits or output_layer; what is called otherwise is told apart by ``fl.route``.
        rule: for those; none of them is no error, as a model of vectors trains by the other rule.
        otherwise: for the rest.

    >>> from fallline import rules
    >>> select("matrices", rules.sgd(lr=0.1), otherwise=rules.adam(lr=0.01)).options
    {'which': 'matrices'}

    Source: the convention of Jordan and others, Muon, 2024.
    """
    check_option("select", "which", which, tuple(SELECTORS))
    made = Rule("select", options={"which": which}, children=all_rules("select", (rule, otherwise)))
    passes(made, "gradient")
    return made


def _groups(rule: Rule, params: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    mine = SELECTORS[rule.options["which"]](params)
    taken = set(mine)
    return mine, [name for name in params if name not in taken]


def _part(state: State, i: int, names: list[str]) -> State:
    held = child_state(state, i)
    return State({name: held.params[name] for name in names if name in held.params}, held.tree)


def _select_init(rule: Rule, params: Tree, h: Numbers) -> State:
    parts = [
        init(child, {n: params[n] for n in names}, specs.inside(h, i))
        for i, (child, names) in enumerate(zip(rule.children, _groups(rule, params), strict=True))
    ]
    return joined_state(params, parts)


def _select_update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    out: Tree = {}
    states, told = [], {}
    for i, (child, names) in enumerate(zip(rule.children, _groups(rule, params), strict=True)):
        given = {n: direction[n] for n in names if n in direction}
        own = {n: params[n] for n in names}
        step, after, info = update(child, given, _part(state, i, names), own, specs.inside(h, i), oracle)
        out.update(step)
        states.append(after)
        told.update({f"{i}.{key}": value for key, value in info.items()})
    return {n: out[n] for n in direction}, joined_state(direction, states), told


def _select_passes(rule: Rule, stage: Stage) -> Stage:
    after = {passes(child, stage) for child in rule.children}
    return "done" if "done" in after else after.pop()


def _select_view(rule: Rule, params: Tree, state: State) -> Tree:
    out = dict(params)
    for i, (child, names) in enumerate(zip(rule.children, _groups(rule, params), strict=True)):
        out.update(view(child, {n: params[n] for n in names}, _part(state, i, names)))
    return out


def _select_sample(draw: Draw) -> Rule:
    return select("matrices", descend(draw(RATE)), otherwise=descend(draw(RATE)))


specs.register(
    Rule,
    "select",
    Behavior(
        _select_init,
        _select_update,
        _select_passes,
        select,
        _select_sample,
        view=_select_view,
        elementwise=False,
    ),
)


SPLITS["select"] = lambda rule, known: _groups(rule, {fact.name: fact for fact in known})  # type: ignore[misc]
