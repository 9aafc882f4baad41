"""What a comparison's report says in words: the verdict, the protocol, where the numbers come from."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from .. import words
from ..html import Markup, element, join
from ..page import description
from .view import View

_LONG = 170  # characters; a longer verdict is set smaller
_FIRST = (
    "command",
    "code",
    "fallline",
    "versions",
    "hardware",
    "seeds",
    "plan",
)  # what readers look for first


def top(view: View, runs: int) -> Markup:
    """The verdict, and the facts that give it weight; of an unfinished study, how far it came."""
    if not view.finished:
        return element("p", _unfinished(view, runs), class_="verdict")
    verdict = view.verdict or "The study has no verdict."
    size = "verdict" if len(verdict) < _LONG else "verdict small"
    return join([element("p", verdict, class_=size), _facts(view)])


def _unfinished(view: View, runs: int) -> str:
    planned = view.protocol.get("runs")
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    return (
        f"This study is not finished: it holds {runs:,}{of} runs. What they show so far is below; only a whole study "
        "is ranked."
    )


def _facts(view: View) -> Markup:
    facts = [
        (view.metric, f"{view.better} is better"),
        (str(view.replicates), "replicates") if view.replicates else None,
        (f"{view.runs:,}", "runs") if isinstance(view.runs, int) else None,
        (words.seconds(view.seconds), "in all") if words.known(view.seconds) else None,
    ]
    return element("ul", [element("li", element("b", f[0]), " ", f[1]) for f in facts if f], class_="facts")


def notes(view: View) -> Markup | None:
    """What limits the verdict."""
    return element("ul", [element("li", note) for note in view.notes], class_="notes") if view.notes else None


# --- the protocol -----------------------------------------------------------------------------------------


def protocol(view: View) -> Markup:
    """How the arms were judged: in sentences, then every number of it."""
    if not view.protocol:
        return Markup()
    return join([element("p", " ".join(_protocol(view))), description(view.protocol)])


def _protocol(view: View) -> Iterator[str]:
    given, retuned = view.protocol, view.protocol.get("retune", True)
    if "replicates" in given:
        what = "The whole protocol, tuning included, is" if retuned else "Training and judging are"
        yield f"{what} repeated {given['replicates']} times, each on seeds of its own."
    if "rates" in given and "seeds" in given:
        when = "Each time, every arm is" if retuned else "Once, every arm is"
        yield f"{when} tuned over {given['rates']} values with {given['seeds']} seeds each; its setting is chosen"
        yield "on validation, trained again on fresh seeds, and judged on test."
    if not retuned:
        yield "The answer holds at these settings: it leaves out how much tuning varies."
    if isinstance(given.get("steps"), int):
        batch = f" on batches of {given['batch']}" if "batch" in given else ""
        yield f"A run takes {given['steps']:,} steps{batch}."
    yield f"Intervals ({view.level:.0%}) and tests are over replicates, which are paired across arms."


# --- where the numbers come from --------------------------------------------------------------------------


def provenance(given: Mapping[str, Any]) -> Markup:
    """Versions, hardware, seeds, command, plan and code."""
    order = [name for name in _FIRST if name in given] + [name for name in given if name not in _FIRST]
    shown = {name: _command(given[name]) if name == "command" else given[name] for name in order}
    return description(shown) if shown else Markup()


def reproduce(given: Mapping[str, Any], store: str) -> Markup:
    """The commands that give these numbers, and this page, again."""
    again = "The same versions on the same kind of machine give the same numbers:"
    lines = [element("p", again), _code(_command(given["command"]))] if given.get("command") else []
    lines += [element("p", "This page is drawn again by:"), _code(f"fallline report {shlex.quote(store)}")]
    return join(lines)


def _command(command: Any) -> str:
    return shlex.join(str(part) for part in command) if isinstance(command, (list, tuple)) else str(command)


def _code(text: str) -> Markup:
    return element("pre", element("code", text))
