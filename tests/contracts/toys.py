"""Four small problems, and fleets of one rule over a ladder of rates on all of them at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.func import vmap

from fallline import rules
from fallline.rules.base import behavior
from fallline.specs import Rule, flatten, log_axis

from .samples import generator, lifted_update

RATES, SHAPE = 9, (4, 2)
STEEP, GENTLE = torch.logspace(-1, 1, 8), torch.logspace(-0.5, 0.5, 8)
SOUGHT = {"quadratic": 1e-3, "rosenbrock": 5e-2, "logistic": 1e-2, "noisy": 5e-2}
"""The share of the excess loss at the start that must be left, by problem; the same for every rule."""


def quadratic(w: Tensor) -> Tensor:
    """Curvatures from 0.1 to 10, minimum at 1."""
    return 0.5 * (STEEP * (w - 1) ** 2).sum(-1)


def rosenbrock(w: Tensor) -> Tensor:
    """Four bent valleys side by side, minimum at 1; a hundredth of the usual function."""
    x, y = w[..., ::2], w[..., 1::2]
    return ((y - x**2) ** 2 + 0.01 * (1 - x) ** 2).sum(-1)


@cache
def _points() -> tuple[Tensor, Tensor]:
    """Two classes of 32 points, which a plane divides but for a tenth of them."""
    x = torch.randn(64, 8, generator=generator(0), dtype=torch.float64)
    side = torch.sign(x @ torch.randn(8, generator=generator(1), dtype=torch.float64))
    return x, torch.where(torch.arange(64) % 10 == 0, -side, side)


def logistic(w: Tensor) -> Tensor:
    """The logistic loss of those points, with a penalty of 0.001."""
    x, y = _points()
    return torch.nn.functional.softplus(-y * (w @ x.T)).mean(-1) + 0.0005 * (w**2).sum(-1)


def noisy(w: Tensor) -> Tensor:
    """Curvatures from 0.3 to 3, minimum at 1; its gradients come with noise of size 1."""
    return 0.5 * (GENTLE * (w - 1) ** 2).sum(-1)


TOYS: dict[str, Callable[[Tensor], Tensor]] = {
    "quadratic": quadratic, "rosenbrock": rosenbrock, "logistic": logistic, "noisy": noisy,
}  # fmt: skip


@cache
def least(name: str) -> float:
    """The least value of a problem; where it is not 0, by Newton's method."""
    if name != "logistic":
        return 0.0
    (x, y), w = _points(), torch.zeros(8, dtype=torch.float64)
    for _ in range(50):
        wrong = torch.sigmoid(-y * (x @ w))
        gradient = 0.001 * w - x.T @ (y * wrong) / len(y)
        bend = x.T @ (x * (wrong * (1 - wrong)).unsqueeze(1)) / len(y) + 0.001 * torch.eye(8)
        w = w - torch.linalg.solve(bend, gradient)
    return float(logistic(w))


def losses(w: Tensor) -> Tensor:
    """The excess losses [problems, rates] of weights [problems · rates, *SHAPE]."""
    flat = w.reshape(len(TOYS), RATES, 8)
    return torch.stack([toy(flat[i]) - least(name) for i, (name, toy) in enumerate(TOYS.items())])


def starts() -> Tensor:
    """Where all runs start: at Rosenbrock's usual point there, and at random elsewhere."""
    start = torch.randn(len(TOYS), 1, 8, generator=generator(2), dtype=torch.float64)
    start[list(TOYS).index("rosenbrock")] = torch.tensor([-1.2, 1.0] * 4)
    return start.expand(-1, RATES, -1).reshape(-1, *SHAPE).clone()


def converge(rule: Rule) -> dict[str, float]:
    """The share of the excess loss that is left at the best rate of each problem, as soon as all are good enough."""
    own = behavior(rule)
    tuned, (low, high) = next(iter(own.search.items()))
    rates = torch.tensor(log_axis(low, high, RATES).values, dtype=torch.float64).repeat(len(TOYS))
    h = {path: torch.full_like(rates, value) for path, value in flatten(rule)} | {tuned: rates}
    params = {"w": starts()}
    first = losses(params["w"])
    state = vmap(lambda p, n: rules.init(rule, p, n))(params, h)
    update, wind, shaken = lifted_update(rule), generator(3), list(TOYS).index("noisy")
    sought = torch.tensor([SOUGHT[name] for name in TOYS], dtype=torch.float64)
    for step in range(1, own.budget + 1):
        gradient = _gradient(params["w"])
        noise = torch.randn(SHAPE, generator=wind, dtype=torch.float64)
        gradient.view(len(TOYS), RATES, *SHAPE)[shaken] += noise
        direction, state, _ = update(params, {"w": gradient}, state, h)
        params = {"w": params["w"] + direction["w"]}
        if step % 25 == 0 or step == own.budget:
            seen = vmap(lambda p, s: rules.view(rule, p, s))(params, state)["w"]
            left = (losses(seen) / first).nan_to_num(torch.inf).amin(1)
            if (left <= sought).all():
                break
    return dict(zip(TOYS, left.tolist(), strict=True)) | {"steps": step}


def _gradient(w: Tensor) -> Tensor:
    w = w.detach().requires_grad_()
    (found,) = torch.autograd.grad(losses(w).sum(), w)
    return found
