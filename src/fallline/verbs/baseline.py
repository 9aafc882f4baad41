"""Hold a comparison against an earlier one: is any arm worse than it was?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadValue
from ..store import Store
from ..studies.ranking import Difference, compare_all
from ..studies.signs import holm, sign_flip
from ..tasks.base import Metric


def check(store: str | Path, metric: Metric, arms: Sequence[str]) -> None:
    """Refuse a baseline that the arms cannot be held against, before anything is trained."""
    _pairs(store, _result(store), metric, arms)


def against(store: str | Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Pair the arms of a result document with those of an earlier store, replicate by replicate.

    Returns ``{"store", "worse", "sentence", "pairs"}``: ``worse`` is whether an arm's score is significantly worse.
    """
    before = _result(store)
    then = {row["arm"]: row["seeds"] for row in before["ranking"]}
    now = {row["arm"]: row["seeds"] for row in document["ranking"]}
    pairs = _pairs(store, before, Metric(document["metric"], document["better"]), list(now))
    found = [_pair(now[a], then[b], document, a) for a, b in pairs]
    worse, better = _changed(found, 1 - document["level"])
    return {
        "store": str(store),
        "worse": bool(worse),
        "sentence": _sentence(worse, better, document["metric"]),
        "pairs": [
            {"arm": _arm(d), "difference": d.value, "low": d.low, "high": d.high, "p": d.p} for d in found
        ],
    }


def _result(store: str | Path) -> dict[str, Any]:
    path = Path(store) / "study.db" if Path(store).is_dir() else Path(store)
    with Store.open(path) as opened:
        if opened.result is None:
            raise BadValue(f"the baseline {store} is unfinished: it has no result to hold against")
        return opened.result


def _pairs(
    store: str | Path, before: Mapping[str, Any], metric: Metric, arms: Sequence[str]
) -> list[tuple[str, str]]:
    """Which arm is held against which: those of one name, or the only one against the only one."""
    if (before["metric"], before["better"]) != (metric.name, metric.better):
        raise BadValue(
            f"the baseline {store} was judged by {before['metric']} ({before['better']} is better), this comparison by "
            f"{metric.name} ({metric.better}): they must be judged by one metric"
        )
    then = [row["arm"] for row in before["ranking"]]
    pairs = [(arm, arm) for arm in arms if arm in then]
    if not pairs and len(then) == len(arms) == 1:
        pairs = [(arms[0], then[0])]
    if not pairs:
        raise BadValue(
            f"no arm of the baseline {store} ({', '.join(then)}) is an arm here ({', '.join(arms)})"
        )
    return pairs


def _pair(
    now: list[float | None], then: list[float | None], document: Mapping[str, Any], arm: str
) -> Difference:
    n = min(len(now), len(then))
    a, b = f"{arm} now", f"{arm} then"
    ended = [any(score is not None for score in scores[:n]) for scores in (now, then)]
    if not all(ended):
        p = float(sign_flip(np.full(n, float(ended[0] - ended[1]))))
        winner = None if ended[0] == ended[1] else (a if ended[0] else b)
        return Difference(a, b, None, None, None, p, p, n, n if winner else 0, winner is not None, winner)
    ranking = compare_all({a: now[:n], b: then[:n]}, better=document["better"], level=document["level"])
    return ranking.difference(a, b)


def _changed(found: Sequence[Difference], alpha: float) -> tuple[list[Difference], list[Difference]]:
    """What became worse, and what better. Each arm is a question of its own, so Holm's correction runs over them.

    An arm that finishes no replicate any more is worse without a test, as it is last in a ranking.
    """
    adjusted = holm([d.p for d in found]).tolist()
    sure = [d for p, d in zip(adjusted, found, strict=True) if p < alpha or d.missing == d.n]
    return [d for d in sure if d.winner == d.b], [d for d in sure if d.winner == d.a]


def _sentence(worse: Sequence[Difference], better: Sequence[Difference], metric: str) -> str:
    if worse:
        return f"worse than the baseline on {metric}: {', '.join(map(_gap, worse))}"
    if better:
        return f"not worse than the baseline on {metric}; better: {', '.join(map(_gap, better))}"
    return f"not worse than the baseline on {metric}: no difference is significant"


def _gap(d: Difference) -> str:
    return f"{_arm(d)} by {abs(d.value):.3g}" if d.value is not None else f"{_arm(d)}, as runs diverged"


def _arm(d: Difference) -> str:
    return d.a.removesuffix(" now")
