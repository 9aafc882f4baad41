"""``fallline init``: a file to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadStore


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("my_task.py"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Write a small task of your own to start from."""
    from ..verbs.init import TEMPLATE

    if path.suffix != ".py":
        raise BadStore(f"{path} must end in .py, as in my_task.py")
    if path.exists():
        raise BadStore(f"{path} exists already: choose another name, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEMPLATE.replace("my_task.py", str(path)), encoding="utf-8")
    except OSError as error:
        raise BadStore(f"{path} cannot be written ({error.strerror}): choose another place") from error
    command = f"fallline compare {path}:task"
    print(json.dumps({"path": str(path), "next": command}) if as_json else f"wrote {path}; next: {command}")
