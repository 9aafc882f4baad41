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
    shaped,
    update,
    view,
)
from .clipping import clip_norm, clip_value
from .compose import chain, wrap
from .curvature import precondition_by_fisher, precondition_by_kfac
from .decay import add_decay, shrink
from .making import per_tensor, recipe, whole_tree
from .matrices import scale_by_shampoo, scale_by_soap
from .orthogonal import orthogonalize, smooth, smooth_ahead
from .quasi_newton import precondition_by_history, search_line
from .recipes import *  # noqa: F403
from .recipes import __all__ as _recipes
from .routing import check_names, route
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
from .selecting import select
from .sharpness import sam

__all__ = [
    "accumulate",
    "accumulate_damped",
    "add_decay",
    "average",
    "chain",
    "check_names",
    "check_trains",
    "clip_norm",
    "clip_value",
    "descend",
    "discontinuous",
    "elementwise",
    "identity",
    "init",
    "look_ahead",
    "needs",
    "numbers",
    "Oracle",
    "orthogonalize",
    "per_tensor",
    "PerParameter",
    "precondition_by_fisher",
    "precondition_by_history",
    "precondition_by_kfac",
    "recipe",
    "route",
    "sam",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_power",
    "scale_by_amsgrad",
    "scale_by_rms",
    "scale_by_shampoo",
    "scale_by_soap",
    "scale_by_stddev",
    "search_line",
    "select",
    "shaped",
    "shrink",
    "slow_down",
    "smooth",
    "smooth_ahead",
    "update",
    "view",
    "whole_tree",
    "wrap",
    *_recipes,
]
