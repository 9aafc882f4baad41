"""Read a page as a browser and a reader would: is it well formed, what does it load, what does it say."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from typing import Any

VOID = {"br", "col", "hr", "img", "meta", "wbr"}


class Reader(HTMLParser):
    """Checks that tags close in order, and collects ids, what refers to them, and elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.refers: set[str] = set()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        self._note(given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._note(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def _note(self, given: dict[str, Any]) -> None:
        self.ids.update([given["id"]] if "id" in given else [])
        for name in ("aria-labelledby", "aria-describedby"):
            self.refers.update((given.get(name) or "").split())
        self.refers.update(value[1:] for name, value in given.items() if name.endswith("href") and value)
        self.refers.update(re.findall(r"url\(#([^)]+)\)", " ".join(str(v) for v in given.values())))


def texts(page: str, tag: str) -> list[str]:
    """The texts of all elements of one kind."""
    found = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, flags=re.DOTALL)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split()) for text in found]


def sections(page: str) -> list[str]:
    """The headings of the sections."""
    return texts(page, "h2")
