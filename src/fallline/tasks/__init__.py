"""Tasks: what is trained."""

from .base import Metric, Task, Variables
from .find import BUILT_IN, find
from .vision import digits

__all__ = ["BUILT_IN", "Metric", "Task", "Variables", "digits", "find"]
