"""Constraints c(given) ≤ 0 or c(given) = 0 on a training: as a quadratic penalty, or by augmented Lagrangian."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import BadTask, BadValue, nearest
from ..specs import Domain
from . import held
from .base import NEEDS, States, define

STRENGTH = Domain("the weight of the squared violation", low=0.0, open_low=True)
EVERY = Domain("the number of steps from one change of the multipliers to the next", low=1.0)
PACE = Domain("the share of a full change that the multipliers take", low=0.0, high=1.0, open_low=True)


def _keep_needs(kind: str, option: str, given: Any) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for name in names:
        if name not in NEEDS:
            raise BadValue(
                f"{kind}({option}=…): a constraint can need {', '.join(NEEDS)}; {nearest(str(name), NEEDS)}"
            )
    return names


_OPTIONS = {
    "constraint": (held.FUNCTION, None),
    "equality": (held.FLAG, False),
    "needs": (held.Option(_keep_needs), ("prediction",)),
    "count": (held.WHOLE, 1),
}
_HELD = {"constraint", "equality", "needs", "count"}


def _called(given: Any) -> Tensor:
    """The constraints' values, [count], from what the loss is given."""
    own = {name: value for name, value in vars(given).items() if name not in _HELD}
    found: Tensor = given.constraint(SimpleNamespace(**own))
    return found.reshape(-1)


def _check(given: Any) -> None:
    """Refuse a constraint that does not give its numbers, on as many examples as all columns have."""
    columns = {name: t for name, t in vars(given).items() if name not in (*_HELD, "params", "model", "rng")}
    n = min(len(t) for t in pytree.tree_leaves(columns) if isinstance(t, Tensor) and t.ndim)
    few = pytree.tree_map(lambda t: t[:n] if isinstance(t, Tensor) and t.ndim else t, columns)
    name = getattr(given.constraint, "__name__", type(given.constraint).__name__)
    try:
        found: Any = given.constraint(SimpleNamespace(**{**vars(given), **few}))
    except Exception as error:
        raise BadTask(
            f"the constraint {name} failed: {type(error).__name__}: {error}; it is given {', '.join(given.needs)} by "
            "attribute, and what else it uses must stand in needs=(…)"
        ) from error
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.numel() != given.count:
        got = (
            f"{list(found.shape)} of {found.dtype}"
            if isinstance(found, Tensor)
            else f"a {type(found).__name__}"
        )
        raise BadTask(
            f"the constraint {name} must give {given.count} floating-point number{'s' * (given.count > 1)} for a batch, "
            f"as count={given.count} says; got {got}"
        )


@define(needs=("prediction",), scope="batch", check=_check, options=_OPTIONS, mu=(STRENGTH, 10.0))
def quadratic_penalty(given: Any, h: Any) -> Tensor:
    """A constraint as a penalty: Ω = μ/2 · Σ_i max(0, c_i)² for c ≤ 0, and μ/2 · Σ_i c_i² for c = 0.

    At a finite μ the optimum breaks the constraint a little, by about λ_i/μ, where λ_i is its multiplier; for none at
    all see :func:`augmented_lagrangian`. The constraint is one number for a batch, or several; it is given what it
    needs by attribute, such as prediction [examples, …], and honors ``given.weight`` itself.

    Args:
        constraint: a function of what the loss is given that returns c, 0-d or [count]; one that can be imported is
            found again when a study resumes, a lambda is not.
        equality: whether c = 0 is meant and not c ≤ 0.
        needs: what the constraint reads, such as ("prediction", "group") or ("params",).
        count: how many numbers it returns.
        mu: the weight μ above 0.

    >>> import torch
    >>> small = quadratic_penalty(constraint=lambda given: given.prediction.mean() - 1.0, mu=2.0)
    >>> small(torch.tensor([3.0, 5.0]), torch.zeros(2))
    tensor(9.)

    Source: Nocedal and Wright, "Numerical optimization" (2006), section 17.1.
    """
    c = _called(given)
    over = c if given.equality else c.clamp(min=0)
    return (0.5 * h.mu * (over**2).sum()).to(c.dtype)


def _multipliers(count: int = 1, **rest: Any) -> States:
    return {
        "multiplier": torch.zeros(count, dtype=torch.float64),
        "steps": torch.zeros((), dtype=torch.float64),
    }


@define(
    needs=("prediction",), scope="batch", check=_check, start=_multipliers, options=_OPTIONS,
    mu=(STRENGTH, 10.0), every=(EVERY, 10.0), pace=(PACE, 1.0),
)  # fmt: skip
def augmented_lagrangian(given: Any, h: Any, state: States) -> tuple[Tensor, States]:
    """A constraint by augmented Lagrangian: for c ≤ 0, Ω = Σ_i (max(0, λ_i + μ c_i)² − λ_i²) / (2μ).

    For c = 0, Ω = Σ_i λ_i c_i + μ/2 c_i². The multipliers λ start at 0 and are the loss's state: after every
    ``every``-th step λ_i ← λ_i + ρ μ c_i, and for c ≤ 0 not below 0. Where training converges, the constraint holds at
    a finite μ, and λ is the price of the constraint, −∂loss/∂c. In a fleet each run has its own λ. The constraint is
    one number for a batch, or several; it is given prediction [examples, …] and what else it needs by attribute.

    The textbook minimizes to the end between two changes of λ; here it takes ``every`` steps of the rule. When λ
    oscillates, take more steps or a smaller pace.

    Args:
        constraint: a function of what the loss is given that returns c, 0-d or [count]; one that can be imported is
            found again when a study resumes, a lambda is not.
        equality: whether c = 0 is meant and not c ≤ 0.
        needs: what the constraint reads, such as ("prediction", "group") or ("params",).
        count: how many numbers it returns.
        mu: the weight μ above 0 of the squared violation.
        every: steps from one change of the multipliers to the next, at least 1.
        pace: the share ρ in (0, 1] of a full change that the multipliers take.

    >>> import torch
    >>> from fallline import losses
    >>> small = augmented_lagrangian(constraint=lambda given: given.prediction.mean() - 1.0, mu=2.0, every=1)
    >>> given = {"prediction": torch.tensor([3.0, 5.0])}
    >>> first, state = losses.value(small, given)
    >>> float(first), state["multiplier"].tolist(), float(losses.value(small, given, state=state)[0])
    (9.0, [6.0], 27.0)

    Source: Nocedal and Wright, "Numerical optimization" (2006), framework 17.3 and equations 17.36 to 17.39 and 17.65,
    with c ≤ 0 where they have c ≥ 0.
    """
    c, multiplier = _called(given), state["multiplier"]
    held_at = multiplier.to(c.dtype)
    if given.equality:
        total = (held_at * c + 0.5 * h.mu * c**2).sum()
    else:
        total = (((held_at + h.mu * c).clamp(min=0) ** 2 - held_at**2) / (2 * h.mu)).sum()
    moved = multiplier + h.pace * h.mu * c.detach().to(multiplier.dtype)
    moved = moved if given.equality else moved.clamp(min=0)
    steps = state["steps"] + 1
    after = torch.where(torch.remainder(steps, h.every) == 0, moved, multiplier)
    return total.to(c.dtype), {"multiplier": after, "steps": steps}
