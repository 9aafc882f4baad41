"""Where numbers come from: versions, hardware, command, code, data."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..tasks.base import Task
from .carry_out import Question

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")
LARGEST_SOURCE = 200_000


def provenance(tasks: Sequence[Task], named: Sequence[Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """What must be known to believe and to repeat a study, as plain data."""
    return {
        "fallline": __version__,
        "code": code_version(),
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in PACKAGES},
        },
        "hardware": {"processor": _processor(), "machine": platform.machine(), "cores": os.cpu_count()},
        "system": platform.platform(terse=True),
        "command": command(),
        "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tasks": {task.name: dict(task.facts) for task in tasks},
        "sources": sources(named),
        "plan": dict(plan),
    }


def asked_for(named: Sequence[Any], folder: Path, question: Question, **options: Any) -> dict[str, Any]:
    """What must be known to go on with a comparison that was stopped, beside its study; and how that is done, in words.

    Args:
        named: the tasks, as they were asked for.
        folder: of the store.
        question: what is asked.
        **options: workers, executor and the like.
    """
    by_name = all(isinstance(name, str) for name in named)
    asked = {
        "tasks": list(named) if by_name else [],
        "from": os.path.relpath(Path.cwd(), folder),
        "limit": question.limit and question.limit.plain(),
        "baseline": None if question.baseline is None else str(question.baseline),
        "notes": list(question.notes),
        **options,
    }
    how = "fallline resume goes on with this study where it stopped"
    if not by_name:
        how = (
            "this study cannot be gone on with from the command line, as its tasks were given as Python objects; "
            "fl.resume(…, tasks=[…]) goes on with it from Python"
        )
    return {"asked": asked, "resume": how} | ({"budget": question.notes[0]} if question.notes else {})


def command() -> str:
    """How this process was started, as one would type it."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return shlex.join(["fallline" if program == "__main__.py" else program, *sys.argv[1:]])


def code_version() -> str:
    """A hash of fallline's own source, which tells two states of the code apart."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def sources(named: Sequence[Any]) -> dict[str, str]:
    """The text of the files that tasks came from: a study keeps the code that made it."""
    return {
        str(path): path.read_text(errors="replace")
        for name in named
        if (path := source(name)) and _short(path)
    }


def source(name: Any) -> Path | None:
    """The file of code that the name of a task leads to."""
    return Path(name.rpartition(":")[0] or name) if isinstance(name, str) and ".py" in name else None


def _short(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST_SOURCE
