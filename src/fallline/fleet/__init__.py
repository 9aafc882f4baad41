"""The fleet: many runs trained together as one program."""

from .block import Settings, evaluations
from .fleet import Fleet, run, settings_for

__all__ = ["Fleet", "Settings", "evaluations", "run", "settings_for"]
