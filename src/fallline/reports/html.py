"""HTML built so that text cannot break it: whatever is not :class:`Markup` is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias
from unicodedata import category

_VOID = frozenset({"br", "col", "hr", "img", "meta", "wbr"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"


def escape(text: str) -> Markup:
    """Text as HTML; characters that no HTML may hold become a visible replacement.

    >>> escape("<script>")
    '&lt;script&gt;'
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(readable(text)))


def readable(text: str) -> str:
    """Text without the control characters and half characters that neither HTML nor SVG may hold."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if c not in "\n\t" and category(c) in ("Cc", "Cs") else c for c in text
    )


def breakable(label: str) -> Markup:
    """A label that may break after the signs inside a path or a name, and nowhere else."""
    return Markup("".join(f"{escape(c)}<wbr>" if c in "/:_.-," else escape(c) for c in readable(label)))


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other; None is nothing."""
    return Markup("".join(_child(child) for child in children))


def element(tag: str, *children: Child, **attributes: str | int | bool | None) -> Markup:
    """One element. An attribute's underscores become hyphens, and one at its end is dropped (``class_``).

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    given = "".join(_attribute(name, value) for name, value in attributes.items())
    return Markup(f"<{tag}{given}>" if tag in _VOID else f"<{tag}{given}>{join(children)}</{tag}>")


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, (str, int)):
        return escape(str(child)) if not isinstance(child, Markup) else child
    return join(child)
