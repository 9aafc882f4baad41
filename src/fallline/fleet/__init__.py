"""The fleet: many runs trained together as one program."""

from .fleet import Fleet, run, settings_for
from .guard import Stopped
from .keep import Keep
from .machine import free_memory
from .pruning import Pruned, halving, hyperband, median_rule, patience, population, pruned
from .settings import Settings, evaluations
from .snapshot import Snapshot

__all__ = [
    "Fleet", "Keep", "Pruned", "Settings", "Snapshot", "Stopped", "evaluations", "free_memory", "halving", "hyperband",
    "median_rule", "patience", "population", "pruned", "run", "settings_for",
]  # fmt: skip
