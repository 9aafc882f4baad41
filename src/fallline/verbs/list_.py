"""What there is, by name."""

from __future__ import annotations

import inspect
from typing import Any

from .. import losses, schedules, specs
from ..specs import Loss, Schedule
from ..tasks.find import BUILT_IN, FETCHED
from ..tasks.scores import NAMED
from .rule_table import rule_rows


def names() -> dict[str, list[dict[str, Any]]]:
    """Tasks, rules, losses, schedules and scores, each with the first line of what it says about itself.

    Rules have all that their table in the docs has, but for what was measured.
    """
    return {
        "tasks": [_row(name, make) for name, make in {**BUILT_IN, **FETCHED}.items()],
        "rules": rule_rows(),
        "losses": [
            _row(kind, specs.behavior(Loss(kind)).function) for kind in specs.kinds(Loss) if hasattr(losses, kind)
        ],
        "schedules": [_row(kind, getattr(schedules, kind, None)) for kind in specs.kinds(Schedule)],
        "scores": [{"name": name, "about": f"{metric.better} is better"} for name, (_, metric) in NAMED.items()],
    }  # fmt: skip


def _row(name: str, thing: Any) -> dict[str, str]:
    about = (inspect.getdoc(thing) or "").split("\n")[0]
    return {"name": name, "about": about}
