"""fallline: find out which loss, optimizer and settings train a PyTorch model best, and why.

    import fallline as fl

    task = fl.Task.supervised(model=lambda: MyNet(), train=(X, y), loss=fl.losses.cross_entropy)
    fl.compare(task)

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = ("errors", "fleet", "layers", "losses", "optim", "rules", "schedules", "tasks")
_NAMES = {
    "Axis": "specs",
    "FalllineError": "errors",
    "Run": "specs",
    "Store": "store",
    "Task": "tasks",
    "axis": "specs",
    "chain": "rules",
    "clip_norm": "rules",
    "clip_value": "rules",
    "compare": "verbs.compare",
    "find_lr": "verbs.find_lr",
    "log_axis": "specs",
    "lora": "layers",
    "resume": "verbs.resume",
    "route": "rules",
    "study": "verbs.study",
    "train": "verbs.train",
}

__all__ = [
    "Axis", "FalllineError", "Run", "Store", "Task", "axis", "chain", "clip_norm", "clip_value", "compare", "errors",
    "find_lr", "fleet", "layers", "log_axis", "lora", "losses", "optim", "resume", "route", "rules", "schedules", "study", "tasks", "train",
]  # fmt: skip

if TYPE_CHECKING:
    from . import errors, fleet, layers, losses, optim, rules, schedules, tasks
    from .errors import FalllineError
    from .layers import lora
    from .rules import chain, clip_norm, clip_value, route
    from .specs import Axis, Run, axis, log_axis
    from .store import Store
    from .tasks import Task
    from .verbs.compare import compare
    from .verbs.find_lr import find_lr
    from .verbs.resume import resume
    from .verbs.study import study
    from .verbs.train import train


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _NAMES:
        value = getattr(importlib.import_module(f".{_NAMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fallline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
