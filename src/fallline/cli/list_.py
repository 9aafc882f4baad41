"""``fallline list``: the names that can be used."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import NotFound, nearest


def list_(
    family: Annotated[str | None, typer.Argument(help="tasks, rules, losses, schedules or scores; all where left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """List tasks, rules, losses, schedules and scores by name."""
    from ..verbs.list_ import names

    known = names()
    if family is not None and family not in known:
        raise NotFound(f"there is no list of {family!r}; {nearest(family, known)}")
    wanted = {name: rows for name, rows in known.items() if family in (None, name)}
    if as_json:
        print(json.dumps(wanted))
        return
    for name, rows in wanted.items():
        print(name)
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            kept = f"{row['state']:>5.3g} × state  " if "state" in row else ""
            print(f"  {row['name']:<{width}}  {kept}{row['about']}")
