"""The sentences of a comparison: its verdict, and what a reader must know to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .ranking import Ranking

if TYPE_CHECKING:
    from .compare import Compared

MEASURES = {
    "test loss": ("the test loss", ""),
    "steps to target": ("the steps to the target", ""),
    "working range": ("the range of rates that work", " decades"),
}


def verdict(document: Mapping[str, Any], rankings: Mapping[str, Ranking]) -> str:
    """One sentence: which arm is best, by how much, how sure; a tie is called a tie, and what separates is told."""
    rows, metric = document["ranking"], document["metric"]
    where = " and ".join(document["tasks"]) if len(document["tasks"]) == 1 else "these tasks"
    told = [row for row in rows if row["score"] is not None]
    if not told:
        return (
            f"No arm finished on {where}: every setting of every arm diverged; search smaller learning rates."
        )
    if len(rows) == 1:
        return f"{rows[0]['arm']} reaches {_score(rows[0], metric)} on {where}; with one arm there is nothing to compare."
    return _main(rows, told, where, document, rankings[metric]) + _separators(rankings, metric) + "."


def _main(
    rows: Sequence[Mapping[str, Any]], told: Sequence[Mapping[str, Any]], where: str, document: Mapping[str, Any],
    ranking: Ranking,
) -> str:  # fmt: skip
    metric, sure = document["metric"], f"{document['level']:.0%}"
    first = [row["arm"] for row in rows if row["rank"] == 1]
    if len(first) == 1 and not rows[0]["tied_with"]:
        best = (
            f"{first[0]} is best on {where}"
            if len(rows) > 2
            else f"{first[0]} is better than {rows[1]['arm']}"
        )
        gap = ranking.difference(rows[0]["arm"], rows[1]["arm"]) if len(told) > 1 else None
        if gap is None or gap.value is None:
            return f"{best}: {_score(rows[0], metric)}"
        above = f"{abs(gap.value):.3g} {'above' if ranking.better == 'higher' else 'below'} {rows[1]['arm']}"
        return (
            f"{best}: {_score(rows[0], metric)}, {above} [{_ends(gap.low, gap.high)}], p = {gap.p_holm:.2g}"
        )
    if len(first) == len(rows):
        spread = f"{min(r['score'] for r in told):.3g} to {max(r['score'] for r in told):.3g}"
        count = "both arms" if len(rows) == 2 else f"all {len(rows)} arms"
        return f"On {where} {count} tie on {metric} ({spread}): no difference is significant at {sure}"
    others = [row["arm"] for row in rows if row["rank"] > 1]
    return (
        f"On {where} no single arm is best on {metric}: none is significantly better than {_list(first)}, "
        f"and {_list(others)} {'is' if len(others) == 1 else 'are'} worse than at least one of them"
    )


def _separators(rankings: Mapping[str, Ranking], metric: str) -> str:
    """What tells the arms apart beside the metric, and what does not."""
    beside = {name: ranking for name, ranking in rankings.items() if name != metric and ranking.differences}
    apart = [
        name for name, ranking in beside.items() if any(pair.significant for pair in ranking.differences)
    ]
    level = [
        f"{MEASURES[name][0]} ({_span(ranking, name)})"
        for name, ranking in beside.items()
        if name not in apart
    ]
    told = ""
    if apart:
        told += f"; what separates them is {_list([_gap(beside[name], name) for name in apart])}"
    if level:
        told += f"; {_list(level)} {'does' if len(level) == 1 else 'do'} not separate them"
    return told


def _gap(ranking: Ranking, name: str) -> str:
    """A measure that separates: the arms that none beats, and the last."""
    values = {s.arm: s.score.value for s in ranking.standings if s.score.value is not None}
    first = [s.arm for s in ranking.standings if s.rank == 1 and s.arm in values]
    last = max((s for s in reversed(ranking.standings) if s.arm in values), key=lambda s: s.rank or 0).arm
    best = _list([f"{arm} {_number(values[arm])}" for arm in first])
    return f"{MEASURES[name][0]} (best {best}, last {last} {_number(values[last])}{MEASURES[name][1]})"


def _span(ranking: Ranking, name: str) -> str:
    values = [s.score.value for s in ranking.standings if s.score.value is not None]
    return f"{_number(min(values))} to {_number(max(values))}{MEASURES[name][1]}" if values else "not reached"


def _score(row: Mapping[str, Any], metric: str) -> str:
    return f"{metric} {row['score']:.4g} [{_ends(row['low'], row['high'])}]"


def _ends(low: float | None, high: float | None) -> str:
    return "no interval" if low is None or high is None else f"{low:.4g}, {high:.4g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- notes ------------------------------------------------------------------------------------------------


def notes(found: Compared, rankings: Mapping[str, Ranking]) -> list[str]:
    """What limits the verdict: ranges that were too narrow, settings that were not tuned, too few replicates."""
    told = []
    for tuned in found.tuned:
        if tuned.boundary:
            told.append(
                f"{tuned.arm.label}: the best {tuned.arm.path} sits at the edge of what was searched, so a better "
                "one may lie outside"
            )
    fixed = [tuned.arm.label for tuned in found.tuned if tuned.arm.path is None]
    if fixed and len(fixed) < len(found.tuned):
        told.append(
            f"{_list(fixed)} ran at fixed settings while the others were tuned: budgets are not equal"
        )
    elif fixed:
        told.append("nothing was tuned: the verdict holds at these settings")
    if not found.protocol.retune and len(fixed) < len(found.tuned):
        told.append(
            "settings were tuned once, not in every replicate: the verdict holds at these settings, and intervals "
            "leave out the luck of the tuning"
        )
    if found.grown:
        times = "once" if found.grown == 1 else f"{found.grown} times"
        told.append(
            f"every range grew {times} by {found.protocol.points} values, as a best setting sat at an edge"
        )
    told += [ranking.note for ranking in list(rankings.values())[:1] if ranking.note]
    return told
