"""Update rules: values that say how a gradient becomes a step.

Named rules stand in ``recipes``; the parts that they are made of stand beside this file. ``fl.rules.adam(lr=0.01)``
is a value that prints, compares and nests; ``fl.optim.Optimizer(params, rule)`` runs it in any training loop,
and ``fl.fleet.run`` runs many of them at once.
"""

from .averaging import accumulate, accumulate_damped, average, look_ahead
from .base import (
    Oracle,
    PerParameter,
    check_trains,
    discontinuous,
    elementwise,
    init,
    needs,
    numbers,
    update,
    view,
)
from .clipping import clip_norm, clip_quantile, clip_units, clip_value
from .compose import chain, wrap
from .conditions import Fact, facts, where
from .decay import add_decay, shrink
from .making import per_tensor, recipe, whole_tree
from .recipes import *  # noqa: F403
from .recipes import __all__ as _recipes
from .routing import check_names, conditional, explain, fit, met, route, table
from .scaling import (
    descend,
    identity,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adam_power,
    scale_by_amsgrad,
    scale_by_rms,
    scale_by_stddev,
    slow_down,
)

__all__ = [
    "Fact",
    "Oracle",
    "PerParameter",
    "accumulate",
    "accumulate_damped",
    "add_decay",
    "average",
    "chain",
    "check_names",
    "check_trains",
    "clip_norm",
    "clip_quantile",
    "clip_units",
    "clip_value",
    "conditional",
    "descend",
    "discontinuous",
    "elementwise",
    "explain",
    "facts",
    "fit",
    "identity",
    "init",
    "look_ahead",
    "met",
    "needs",
    "numbers",
    "per_tensor",
    "recipe",
    "route",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_power",
    "scale_by_amsgrad",
    "scale_by_rms",
    "scale_by_stddev",
    "shrink",
    "slow_down",
    "table",
    "update",
    "view",
    "where",
    "whole_tree",
    "wrap",
    *_recipes,
]
