"""Schedules: step → value, pure and vectorized; any hyperparameter may be one.

A schedule is a value (:class:`fallline.specs.Schedule`) that prints, compares and nests. Steps are counted from
0, the number of steps taken so far, and no step is hidden: the first update sees ``at(0)``.

>>> from fallline import schedules
>>> warm = schedules.joined(schedules.warm_up(10, to=0.1), schedules.cosine(0.1, 90), lengths=(10,))
>>> warm.at(5), warm.at(10), warm.at(100)
(0.05, 0.1, 0.0)
>>> import torch
>>> warm.at(torch.tensor([0, 10, 55]))
tensor([0.0000, 0.1000, 0.0500], dtype=torch.float64)

The numbers of a schedule are data: each run of a fleet may have its own, and an axis in the place of one is tuned.
"""

from .base import DROP, LENGTH, OFFSET, STEPS, VALUE, Behavior, schedule, values
from .composed import FACTOR, joined, scaled
from .falling import exponential, inverse_sqrt, inverse_time, polynomial
from .ramps import warm_up, warm_up_stable_decay
from .stairs import constant, multi_step, step
from .waves import cosine, cosine_restarts, one_cycle

__all__ = [
    "DROP", "FACTOR", "LENGTH", "OFFSET", "STEPS", "VALUE", "Behavior", "constant", "cosine", "cosine_restarts",
    "exponential", "inverse_sqrt", "inverse_time", "joined", "multi_step", "one_cycle", "polynomial", "scaled",
    "schedule", "step", "values", "warm_up", "warm_up_stable_decay",
]  # fmt: skip
