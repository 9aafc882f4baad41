"""What every named rule says about itself, as rows of plain data: for ``fallline list rules`` and the docs."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from .. import rules, specs
from ..domains import show
from ..rules.base import behavior
from ..rules.parse import named
from ..specs import Rule

SHAPES = {"weight": (256, 256), "bias": (256,)}
"""The layer for which a rule's state is counted; matrix rules keep more for other shapes."""


def rule_rows() -> list[dict[str, Any]]:
    """A row for each named rule, from its docstring, its numbers and its state."""
    return [_row(kind) for kind in named()]


def _row(kind: str) -> dict[str, Any]:
    known = behavior(Rule(kind))
    text = inspect.getdoc(known.make) or ""
    rule = known.make()
    source, notes = source_of(text)
    return {
        "name": kind,
        "about": text.split("\n")[0],
        "title": text.split("\n\n")[0].replace("\n", " ").split(": ")[0].rstrip("."),
        "equation": equation_of(text),
        "numbers": {path: show(number) for path, number in specs.flatten(rule)},
        "options": {name: show(option) for name, option in rule.options.items()},
        "search": {name: list(ends) for name, ends in known.search.items()},
        "needs": sorted(rules.needs(rule)),
        "elementwise": rules.elementwise(rule),
        "state": state_of(rule),
        "equals": [note for note in notes if _equals(note)],
        "differs": [note for note in notes if not _equals(note)],
        "source": source,
    }


def state_of(rule: Rule) -> float:
    """How many numbers a rule keeps for each number of a layer: for Adam about 2."""
    params = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    kept = sum(t.numel() for t in tree_leaves(rules.init(rule, params)))
    return round(kept / sum(p.numel() for p in params.values()), 2)


def equation_of(text: str) -> str:
    """The equation of a docstring: what follows the colon of its first sentence, and the lines set apart below it.

    >>> equation_of("Descent: w ← w − lr · g.\\n\\n    g = ∇L(w)\\n\\nSource: Cauchy 1847.")
    'w ← w − lr · g; g = ∇L(w)'
    """
    first, *more = text.split("Args:")[0].split(">>>")[0].strip().split("\n\n")
    found = [" ".join(first.split()).partition(": ")[2].split(". ")[0].rstrip(".")]
    for paragraph in more:
        if paragraph.startswith("    "):
            found += [re.sub(r"\s{2,}", ", ", line.strip()) for line in paragraph.splitlines()]
    return "; ".join(part for part in found if part)


def source_of(text: str) -> tuple[str, list[str]]:
    """The source that a docstring names, and the sentences that it adds to it.

    >>> source_of("Do it.\\n\\nSource: Euler, On steps, 1768. Equals ``torch.f``. The slide has none.")
    ('Euler, On steps, 1768.', ['Equals ``torch.f``.', 'The slide has none.'])
    """
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        return "", []
    first, *more = re.split(r"(?<!et al\.)(?<=\.) (?=\S)", " ".join(found[1].split()))
    return first, more


def _equals(note: str) -> bool:
    return "torch" in note and re.search(r"\bequals?\b", note, re.IGNORECASE) is not None
