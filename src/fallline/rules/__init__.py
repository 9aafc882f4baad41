"""Update rules: values that say how a gradient becomes a step.

Named rules stand in ``recipes``; the parts that they are made of stand beside this file. ``fl.rules.adam(lr=0.01)``
is a value that prints, compares and nests; ``fl.optim.Optimizer(params, rule)`` runs it in any training loop,
and ``fl.fleet.run`` runs many of them at once.
"""

from .averaging import accumulate, accumulate_damped, look_ahead
from .base import (
    Oracle,
    PerParameter,
    as_vector,
    check_trains,
    discontinuous,
    elementwise,
    init,
    needs,
    numbers,
    one_vector,
    rounds,
    shaped,
    update,
    view,
)
from .clipping import clip_norm, clip_quantile, clip_units, clip_value
from .compose import chain, wrap
from .conditions import Fact, facts, where
from .curvature import precondition_by_fisher, precondition_by_kfac
from .decay import add_decay, shrink
from .distance import descend_by_distance
from .gathering import accumulate_gradients
from .making import per_tensor, recipe, whole_tree
from .matrices import scale_by_shampoo, scale_by_soap
from .moments import (
    scale_by_adadelta,
    scale_by_adamax,
    scale_by_adopt,
    scale_by_belief,
    scale_by_corrected_rms,
    scale_by_lion,
    scale_by_nadam,
    scale_by_radam,
)
from .orthogonal import orthogonalize, smooth, smooth_ahead
from .quasi_newton import precondition_by_history, search_line
from .recipes import *  # noqa: F403
from .recipes import __all__ as _recipes
from .rounding import round_at_random
from .routing import check_names, conditional, explain, fit, met, route, table
from .scaling import (
    descend,
    identity,
    scale_by_adagrad,
    scale_by_adam,
    scale_by_adam_power,
    scale_by_amsgrad,
    scale_by_rms,
    scale_by_sign,
    scale_by_stddev,
    slow_down,
)
from .selecting import select
from .sharpness import sam
from .sizes import (
    centralize,
    clip_rms,
    descend_slowing,
    scale_by_bounded_factors,
    scale_by_factors,
    scale_by_size,
    scale_by_trust,
)
from .views import average, average_equally, lookahead, schedule_free
from .wrapping import around

__all__ = [
    "Fact",
    "Oracle",
    "PerParameter",
    "accumulate",
    "accumulate_damped",
    "accumulate_gradients",
    "add_decay",
    "around",
    "as_vector",
    "average",
    "average_equally",
    "centralize",
    "chain",
    "check_names",
    "check_trains",
    "clip_norm",
    "clip_quantile",
    "clip_rms",
    "clip_units",
    "clip_value",
    "conditional",
    "descend",
    "descend_by_distance",
    "descend_slowing",
    "discontinuous",
    "elementwise",
    "explain",
    "facts",
    "fit",
    "identity",
    "init",
    "look_ahead",
    "lookahead",
    "met",
    "needs",
    "one_vector",
    "numbers",
    "orthogonalize",
    "per_tensor",
    "precondition_by_fisher",
    "precondition_by_history",
    "precondition_by_kfac",
    "recipe",
    "round_at_random",
    "rounds",
    "route",
    "sam",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_power",
    "scale_by_adamax",
    "scale_by_adopt",
    "scale_by_amsgrad",
    "scale_by_belief",
    "scale_by_bounded_factors",
    "scale_by_corrected_rms",
    "scale_by_factors",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_shampoo",
    "scale_by_sign",
    "scale_by_size",
    "scale_by_soap",
    "scale_by_stddev",
    "scale_by_trust",
    "schedule_free",
    "search_line",
    "select",
    "shaped",
    "shrink",
    "slow_down",
    "smooth",
    "smooth_ahead",
    "table",
    "update",
    "view",
    "where",
    "whole_tree",
    "wrap",
    *_recipes,
]
