"""Rules that bound a gradient: by its norm, by its past norms, unit by unit, and entry by entry."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeAlias

import torch
from torch import Tensor

from .. import specs
from ..errors import BadRule, BadValue
from ..specs import Domain, Number, Rule
from ..tree import norm
from ..types import Info, Numbers, State, Tree
from .base import EITHER, Behavior, Draw, Oracle, Stage, refusal
from .making import bound, checked, per_tensor, shared

P = ParamSpec("P")
BOUND = Domain("the largest norm that is let through, in the unit of the gradient", low=0.0, open_low=True)
LIMIT = Domain(
    "the largest size of an entry that is let through, in the unit of the gradient", low=0.0, open_low=True
)
QUANTILE = Domain("the share of the past norms that lie below the bound", low=0.0, high=1.0)
SHARE = Domain(
    "the largest norm of a unit's gradient that is let through, as a share of the norm of its weights",
    low=0.0,
    open_low=True,
)
FLOOR = Domain("what the norm of a unit's weights counts as at least, in the unit of a weight", low=0.0)


# --- rules over the whole tree that have options ----------------------------------------------------------------

Clip: TypeAlias = Callable[..., tuple[Tree, dict[str, Tensor], Info]]


def _nothing(params: Tree, **options: Any) -> dict[str, Tensor]:
    return {}


def _whole(
    clip: Clip, start: Callable[..., dict[str, Tensor]] = _nothing, *, sums: int = 0, **domains: Domain
) -> Callable[[Callable[P, Rule]], Callable[P, Rule]]:
    """Make a rule of ``clip(tree, state, h, **options)``, which sees all parameters together, from what writes it.

    As :func:`fallline.rules.whole_tree` does for rules without options.
    """

    def begin(rule: Rule, params: Tree, h: Numbers) -> State:
        return State({name: {} for name in params}, start(params, **rule.options))

    def step(
        rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
    ) -> tuple[Tree, State, Info]:
        held, own = SimpleNamespace(**state.tree), shared(rule, h, params)
        new, kept, info = clip(direction, held, own, **rule.options)
        out = {name: new[name].to(d.dtype) for name, d in direction.items()}
        return out, State({name: {} for name in direction}, kept), info

    def flows(rule: Rule, stage: Stage) -> Stage:
        if stage not in EITHER:
            raise BadRule(refusal(rule, stage))
        return stage

    def decorate(body: Callable[P, Rule]) -> Callable[P, Rule]:
        kind, signature = body.__name__, inspect.signature(body)

        @functools.wraps(body)
        def make(*args: P.args, **given: P.kwargs) -> Rule:
            values = checked(kind, domains, bound(kind, signature, args, given))
            return body(**values)  # type: ignore[call-arg]

        def sample(draw: Draw) -> Rule:
            return make(**{name: draw(domain) for name, domain in domains.items()})  # type: ignore[call-arg]

        known = Behavior(
            begin,
            step,
            flows,
            make,
            sample,
            domains=dict(domains),
            sums=sums,
            elementwise=False,
            as_vector=True,
        )
        specs.register(Rule, kind, known)
        return make

    return decorate


# --- by the norm over all parameters --------------------------------------------------------------------------


def _clip_norm(tree: Tree, s: Any, h: Any, order: float = 2.0) -> tuple[Tree, dict[str, Tensor], Info]:
    size = _size(tree, order)
    out, share = _bounded(tree, size, h.max_norm)
    return out, {}, {"norm": size, "share": share}


def _size(tree: Tree, order: float = 2.0) -> Tensor:
    """The norm over all entries that there are; a tensor without entries has no largest one."""
    return norm({name: g.double() for name, g in tree.items() if g.numel()}, order)


def _bounded(tree: Tree, size: Tensor, limit: Any) -> tuple[Tree, Tensor]:
    share = torch.where(size > limit, limit / size, torch.ones_like(size))
    return {name: g * share for name, g in tree.items()}, share


@_whole(_clip_norm, sums=1, max_norm=BOUND)
def clip_norm(max_norm: Number, order: float | str = 2.0) -> Rule:
    """Shrink the whole gradient when its norm is above a bound: g · min(1, max_norm / ‖g‖).

    The norm is taken over all parameters together, as if they were one vector; the direction is kept. It is
    ‖g‖ = (Σ |g|ᵖ)^(1/p) for the order p, √(Σ g²) unless something else is said, and is taken in float64, as the
    squares of an exploding gradient leave the range of float32 long before the gradient does. A gradient that is
    not finite stays so: the run is then recorded as diverged.

    Args:
        max_norm: the largest norm that is let through, in the unit of the gradient, above 0.
        order: the p of the norm, at least 1; ``"inf"`` takes the largest absolute value. It is one for all runs.

    >>> from fallline import rules
    >>> rules.chain(clip_norm(1.0), rules.sgd(lr=0.1))
    chain(clip_norm(max_norm=1), sgd(lr=0.1))
    >>> clip_norm(1.0, order="inf")
    clip_norm(max_norm=1, order=inf)

    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013.
    ``torch.nn.utils.clip_grad_norm_`` divides by ‖g‖ + 1e-6; this divides by ‖g‖. Its orders below 1 are no norms,
    and are refused here. In a fleet each run is clipped by its own norm.
    """
    p = _order(order)
    return Rule("clip_norm", {"max_norm": max_norm}, {} if p == 2.0 else {"order": p})


def _order(given: Any) -> float:
    try:
        found = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        found = math.nan
    if not found >= 1:
        raise BadValue(
            f'clip_norm(order={given!r}): order is the p of a norm, a number of at least 1 or "inf"; below 1 it is no '
            "norm, as the sum of two small gradients could be larger than both together"
        )
    return found


# --- by its past norms ----------------------------------------------------------------------------------------


def _remembered(params: Tree, window: int) -> dict[str, Tensor]:
    device = next((p.device for p in params.values()), None)
    past = torch.full((window,), math.inf, dtype=torch.float64, device=device)
    return {"norms": past, "count": torch.zeros((), dtype=torch.float64, device=device)}


def _clip_quantile(tree: Tree, s: Any, h: Any, window: int) -> tuple[Tree, dict[str, Tensor], Info]:
    if not tree:  # a part of a route that had no gradient: nothing to remember
        return tree, vars(s), {}
    size = _size(tree).to(s.norms)
    seen = torch.isfinite(size)
    norms = torch.where(seen, torch.cat([s.norms[1:], size.reshape(1)]), s.norms)
    count = torch.clamp(s.count + seen, max=window)
    limit = torch.where(seen, _quantile(norms, count, h.quantile), size)
    out, share = _bounded(tree, size, limit)
    return out, {"norms": norms, "count": count}, {"norm": size, "share": share, "bound": limit}


def _quantile(norms: Tensor, count: Tensor, quantile: Any) -> Tensor:
    """The quantile of the ``count`` finite norms; the others are infinite, and sorted behind them."""
    ranked = torch.sort(norms).values
    place = quantile * (count - 1)
    near = torch.clamp(1 - torch.abs(torch.arange(len(norms), device=norms.device) - place), min=0)
    return torch.where(near > 0, ranked * near, 0.0).sum()


@_whole(_clip_quantile, _remembered, quantile=QUANTILE)
def clip_quantile(quantile: Number = 0.9, window: int = 100) -> Rule:
    """Shrink the gradient when its norm is above a quantile of the last norms: g · min(1, Q(n₁ … n_k) / ‖g‖).

    n₁ … n_k are the norms of the last ``window`` gradients before they were clipped, the present one among them, or
    of all so far when there are fewer. Q is their quantile with straight lines between them: of the sorted norms the
    one at place quantile · (k − 1), counted from 0. So the first gradient is let through, and quantile 1 clips
    nothing. A gradient that is not finite is given on as it is and leaves the window as it was.

    Args:
        quantile: the share of the last norms that lie below the bound, in [0, 1]; each run may have its own.
        window: how many norms are remembered, at least 1 and one for all runs.

    >>> from fallline import rules
    >>> rules.chain(clip_quantile(0.5, window=50), rules.sgd(lr=0.1))
    chain(clip_quantile(quantile=0.5, window=50), sgd(lr=0.1))

    Source: Seetharaman et al., AutoClip: adaptive gradient clipping for source separation networks, 2020, which
    remembers all norms; here those of a window, so that the bound follows a gradient that shrinks.
    """
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise BadValue(
            f"clip_quantile(window={window!r}): window is how many norms are remembered, a whole number of at least 1"
        )
    return Rule("clip_quantile", {"quantile": quantile}, {"window": window})


# --- unit by unit ---------------------------------------------------------------------------------------------


@per_tensor(elementwise=False, share=SHARE, eps=FLOOR)
def clip_units(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Adaptive gradient clipping: each unit's gradient gᵢ · min(1, share · max(‖wᵢ‖, eps) / ‖gᵢ‖).

    A unit is a row along the first axis, which holds all weights that lead into one output of a linear layer or
    into one channel of a convolution; a vector (a bias, the gains of a norm) or a single number is one unit. Norms
    are taken in float64.

    Args:
        share: the largest gradient of a unit as a share of its weights, above 0; the paper has 0.01 for batches of
            4,096 and up to 0.16 for small ones.
        eps: what the norm of a unit's weights counts as at least, so that those that start at 0 can move; at least 0.

    >>> from fallline import rules
    >>> rules.chain(clip_units(0.01, 1e-3), rules.sgd(lr=0.1))
    chain(clip_units(share=0.01, eps=0.001), sgd(lr=0.1))

    Source: Brock et al., High-performance large-scale image recognition without normalization, 2021. The paper
    leaves out the last layer: ``fl.route({"head.*": fl.rules.identity()}, otherwise=fl.rules.clip_units(0.01, 1e-3))``.
    """
    size, limit = _units(d.double()), h.share * torch.clamp(_units(p.double()), min=h.eps)
    return d * torch.where(size > limit, limit / size, 1.0), {}


def _units(t: Tensor) -> Tensor:
    """The norm of each unit, in a shape that broadcasts with the tensor."""
    if t.ndim < 2:
        return torch.linalg.vector_norm(t)
    return torch.linalg.vector_norm(t, dim=tuple(range(1, t.ndim)), keepdim=True)


# --- entry by entry -------------------------------------------------------------------------------------------


@per_tensor(takes=EITHER, limit=LIMIT)
def clip_value(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Bound each entry of the gradient: g ← max(−limit, min(limit, g)).

    The direction may change: large entries are cut, small ones stay. Infinite entries become finite, NaN stays.

    Args:
        limit: the largest size of an entry that is let through, in the unit of the gradient, above 0.

    >>> from fallline import rules
    >>> rules.chain(clip_value(0.5), rules.sgd(lr=0.1))
    chain(clip_value(limit=0.5), sgd(lr=0.1))

    Source: Mikolov, Statistical language models based on neural networks, 2012; equals
    ``torch.nn.utils.clip_grad_value_``.
    """
    limit = torch.as_tensor(h.limit, dtype=d.dtype, device=d.device)
    return torch.minimum(torch.maximum(d, -limit), limit), {}
