"""Hold a comparison against an earlier one: is any arm worse than it was?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadValue
from ..store import Store
from ..studies.ranking import Difference, compare_all


def check(store: str | Path) -> None:
    """Refuse a baseline that cannot be read, before anything is trained."""
    with Store.open(store) as opened:
        if opened.result is None:
            raise BadValue(f"the baseline {store} is unfinished: it has no result to hold against")


def against(store: str | Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Pair the arms of a result document with those of an earlier store, replicate by replicate.

    Returns ``{"store", "worse", "sentence", "pairs"}``: ``worse`` is whether an arm's score is significantly worse.
    """
    with Store.open(store) as opened:
        before = opened.result
    if before is None:
        raise BadValue(f"the baseline {store} is unfinished: it has no result to hold against")
    if (before["metric"], before["better"]) != (document["metric"], document["better"]):
        raise BadValue(
            f"the baseline {store} was judged by {before['metric']}, this comparison by {document['metric']}: they "
            "must be judged by one metric"
        )
    then = {row["arm"]: row["seeds"] for row in before["ranking"]}
    now = {row["arm"]: row["seeds"] for row in document["ranking"]}
    pairs = [(arm, arm) for arm in now if arm in then]
    if not pairs and len(then) == len(now) == 1:
        pairs = [(next(iter(now)), next(iter(then)))]
    if not pairs:
        raise BadValue(
            f"no arm of the baseline {store} ({', '.join(then)}) is an arm here ({', '.join(now)})"
        )
    found = [_pair(now[a], then[b], document, a) for a, b in pairs]
    # each arm is a question of its own about a change, so Holm's correction runs over them
    adjusted = _adjusted(found, 1 - document["level"])
    worse = [arm for arm, bad in zip([a for a, _ in pairs], adjusted, strict=True) if bad]
    return {
        "store": str(store),
        "worse": bool(worse),
        "sentence": _sentence(worse, found, document["metric"]),
        "pairs": [{"arm": d.a.removesuffix(" now"), "difference": d.value, "low": d.low, "high": d.high, "p": d.p} for d in found],
    }  # fmt: skip


def _pair(
    now: list[float | None], then: list[float | None], document: Mapping[str, Any], arm: str
) -> Difference:
    n = min(len(now), len(then))
    scores = {f"{arm} now": now[:n], f"{arm} then": then[:n]}
    ranking = compare_all(scores, better=document["better"], level=document["level"])
    return ranking.difference(f"{arm} now", f"{arm} then")


def _adjusted(found: list[Difference], alpha: float) -> list[bool]:
    from ..studies.signs import holm

    adjusted = holm([d.p for d in found])
    return [bool(p < alpha) and d.winner == d.b for p, d in zip(adjusted.tolist(), found, strict=True)]


def _sentence(worse: list[str], found: list[Difference], metric: str) -> str:
    if worse:
        told = [
            f"{d.a.removesuffix(' now')} by {abs(d.value):.3g}"
            for d in found
            if d.value is not None and d.a.removesuffix(" now") in worse
        ]
        return f"worse than the baseline on {metric}: {', '.join(told) or ', '.join(worse)}"
    better = [d.a.removesuffix(" now") for d in found if d.winner == d.a]
    if better:
        return f"not worse than the baseline on {metric}; {', '.join(better)} better"
    return f"not worse than the baseline on {metric}: no difference is significant"
