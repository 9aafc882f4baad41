"""The diagonal of the Fisher information: how much each weight matters to what a model says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from ..errors import BadValue, nearest
from ..types import Tree

KINDS = ("exact", "sampled", "empirical")
LIKELIHOODS = ("categorical", "normal")


def fisher_diagonal(
    model: nn.Module,
    data: Any,
    kind: str = "exact",
    *,
    likelihood: str = "categorical",
    samples: int = 1,
    seed: int = 0,
    together: int = 64,
) -> Tree:
    """The mean over examples of squared scores: F_i = 1/N · Σ_n E_y[(∂ log p(y | x_n, w) / ∂w_i)²], for each weight.

    Scores are squared example by example; the square of a batch's mean gradient is another, smaller thing. The kinds
    differ in where y comes from:

        exact       the expectation over the model's own p(y | x_n), written out over all classes
        sampled     ``samples`` draws of y from p(y | x_n) for each example: exact on average
        empirical   the label of the data; where the model fits it well, scores and F go to 0

    The model is taken as it is when it is judged (without dropout), and left as it was.

    Args:
        model: a model that gives logits [examples, classes], or means [examples, outputs].
        data: the inputs [examples, …], or (inputs, target) where the kind is empirical.
        kind: exact, sampled or empirical.
        likelihood: categorical, p = softmax(z); or normal, p = N(f(x), 1) for each output, whose exact F is the mean of
            Σ_k (∂f_k/∂w_i)².
        samples: draws for each example, where the kind is sampled.
        seed: of the draws.
        together: examples whose scores are held in memory at the same time.

    >>> model = nn.Linear(1, 2).double()
    >>> _ = [p.data.zero_() for p in model.parameters()]
    >>> fisher_diagonal(model, torch.ones(3, 1).double())["bias"]
    tensor([0.2500, 0.2500], dtype=torch.float64)

    Source: Kirkpatrick et al. (PNAS 2017); van de Ven, "On the computation of the Fisher information in continual
    learning" (2025), which compares these kinds.
    """
    _check(model, kind, likelihood, samples, together)
    inputs, target = _pair(data, kind)
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise BadValue(
            f"the model {type(model).__name__} has no parameters that are trained: nothing to hold"
        )
    generator = torch.Generator(inputs.device).manual_seed(seed)
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    with _judged(model):
        log_p, draw = _likelihood(model, likelihood)
        _check_outputs(model, inputs, target, likelihood)
        for start in range(0, len(inputs), together):
            x = inputs[start : start + together]
            if kind == "exact":
                squares = _exact(model, params, x, likelihood)
                total = {name: t + squares[name] for name, t in total.items()}
                continue
            for _ in range(samples if kind == "sampled" else 1):
                y = draw(x, generator) if kind == "sampled" else target[start : start + together]
                scores = vmap(grad(log_p), in_dims=(None, 0, 0))(params, x, y)
                total = {name: t + (scores[name] ** 2).sum(0) for name, t in total.items()}
    count = len(inputs) * (samples if kind == "sampled" else 1)
    return {name: t / count for name, t in total.items()}


def _exact(model: nn.Module, params: Tree, x: Tensor, likelihood: str) -> Tree:
    """The sum over examples of Σ_y p(y) (∂ log p(y))², or of Σ_k (∂f_k)² for normal outputs."""

    def outputs(params: Tree, x: Tensor) -> tuple[Tensor, Tensor]:
        z = _one(model, params, x)
        z = z.log_softmax(0) if likelihood == "categorical" else z
        return z, z.detach()

    slopes, z = vmap(jacrev(outputs, has_aux=True), in_dims=(None, 0))(params, x)
    p = z.exp() if likelihood == "categorical" else torch.ones_like(z)
    return {name: torch.einsum("nk,nk...->...", p, j**2) for name, j in slopes.items()}


def _likelihood(model: nn.Module, likelihood: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """log p(y | x) of one example, up to a constant, and draws of y for several."""

    def categorical(params: Tree, x: Tensor, y: Tensor) -> Tensor:
        return _one(model, params, x).log_softmax(0).gather(0, y.long().unsqueeze(0)).squeeze(0)

    def normal(params: Tree, x: Tensor, y: Tensor) -> Tensor:
        return -0.5 * ((y - _one(model, params, x)) ** 2).sum()

    def classes(x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.multinomial(model(x).softmax(1), 1, generator=generator).squeeze(1)

    def numbers(x: Tensor, generator: torch.Generator) -> Tensor:
        mean: Tensor = model(x)
        return mean + torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)

    return (categorical, classes) if likelihood == "categorical" else (normal, numbers)


def _one(model: nn.Module, params: Tree, x: Tensor) -> Tensor:
    found: Tensor = functional_call(model, params, (x.unsqueeze(0),))
    return found.squeeze(0)


@contextmanager
def _judged(model: nn.Module) -> Iterator[None]:
    """Inside, the model is judged and not trained, in all of its parts."""
    modes = {part: part.training for part in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


# --- what is refused --------------------------------------------------------------------------------------


def _check(model: Any, kind: str, likelihood: str, samples: int, together: int) -> None:
    if not isinstance(model, nn.Module):
        raise BadValue(f"fisher_diagonal takes a model, an nn.Module, got a {type(model).__name__}")
    for name, value, known in (("kind", kind, KINDS), ("likelihood", likelihood, LIKELIHOODS)):
        if value not in known:
            raise BadValue(
                f"fisher_diagonal({name}={value!r}): {name} is one of {', '.join(known)}; {nearest(str(value), known)}"
            )
    for name, number in (("samples", samples), ("together", together)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise BadValue(f"fisher_diagonal({name}={number!r}): {name} must be a whole number of at least 1")


def _pair(data: Any, kind: str) -> tuple[Tensor, Any]:
    inputs, target = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
    if not isinstance(inputs, Tensor) or inputs.ndim == 0 or len(inputs) == 0:
        got = list(inputs.shape) if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise BadValue(
            f"fisher_diagonal takes inputs as a tensor with at least one example, [examples, …], or (inputs, target); "
            f"got {got}"
        )
    if kind == "empirical" and (not isinstance(target, Tensor) or len(target) != len(inputs)):
        raise BadValue(
            f"the empirical Fisher needs a label for each of the {len(inputs)} examples: pass (inputs, target), or take "
            "kind='exact', which needs none"
        )
    return inputs, target


def _check_outputs(model: nn.Module, inputs: Tensor, target: Any, likelihood: str) -> None:
    shape = list(model(inputs[:1]).shape)
    if len(shape) != 2:
        raise BadValue(
            f"fisher_diagonal needs a model that gives one row for each example, [examples, outputs]; got {shape} for one"
        )
    if target is None:
        return
    wanted = [len(inputs)] if likelihood == "categorical" else [len(inputs), shape[1]]
    if list(target.shape) != wanted or (likelihood == "categorical" and target.is_floating_point()):
        raise BadValue(
            f"the target of a {likelihood} likelihood is {wanted}, {'class numbers' if len(wanted) == 1 else 'numbers'}; "
            f"got {list(target.shape)} of {target.dtype}"
        )
