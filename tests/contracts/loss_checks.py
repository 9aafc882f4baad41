"""The contract of a loss, as functions of its kind; a check that a kind breaks raises.

What a loss can be given is found by asking it: of batches with targets of several kinds and shapes, those that its own
check accepts are the ones on which it must keep the contract.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from fallline import losses, specs
from fallline.errors import BadTask, BadValue, NotFound
from fallline.losses import held, reference
from fallline.losses.base import behavior
from fallline.specs import Loss

from .documents import check_document
from .samples import Draw, equal, generator, outside

EXAMPLES, CLASSES, PLACES, RUNS = 7, 3, 2, 5
members = [kind for kind in specs.kinds(Loss) if behavior(Loss(kind)).needs]


def sample(kind: str, seed: int = 0) -> Loss:
    """One loss of a kind, its numbers from the inside of their domains; a kind without needs is made of others.

    What it must hold does not hang on the seed: losses of one kind share a program.
    """
    own, draw = behavior(Loss(kind)), Draw(seed)
    children = () if own.needs else (sample(members[0], seed),)
    kept = {name: o.keep(kind, name, HOLDS[o]()) for name, o in own.options.items() if o in HOLDS}
    defaults = {**own.defaults, **kept}
    return Loss(kind, {name: draw(domain) for name, domain in own.domains.items()}, defaults, children)


def _weighted_mean(given: Any) -> Tensor:
    """A constraint: a mean over examples, by their weights."""
    each = given.prediction.flatten(1).mean(1) if given.prediction.ndim > 1 else given.prediction
    weight = getattr(given, "weight", torch.ones_like(each))
    return (each * weight).sum() / weight.sum() + 0.1


def _old_model() -> torch.nn.Module:
    model = torch.nn.Linear(4, CLASSES)
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=generator(0))
    return model


HOLDS: dict[Any, Callable[[], Any]] = {
    held.WEIGHTS: lambda: {"w": torch.rand(3, generator=generator(0))},
    held.MODEL: _old_model,
    held.FUNCTION: lambda: _weighted_mean,
}
"""An example of all that a loss can hold, for the candidates below."""


def candidates(
    seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> Iterator[dict[str, Any]]:
    """Batches of [B], [B, K] and [B, K, T] outputs, with numbers, truths, signs, classes or shares as targets."""
    random = generator(seed)
    for shape in ((EXAMPLES,), (EXAMPLES, CLASSES), (EXAMPLES, CLASSES, PLACES)):
        prediction = scale * torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
        numbers = torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)
        truths = torch.randint(2, shape, generator=random).to(dtype)
        classes = torch.randint(CLASSES, (EXAMPLES, *shape[2:]), generator=random)
        shares = [numbers.softmax(1)] if len(shape) > 1 else []
        for target in (numbers, truths, 2 * truths - 1, classes, *shares):
            yield {
                "prediction": prediction,
                "target": target,
                "group": torch.arange(EXAMPLES) % 2,
                "inputs": torch.randn(EXAMPLES, 4, generator=random, dtype=torch.float64).to(dtype),
                "features": torch.randn(EXAMPLES, 5, generator=random, dtype=torch.float64).to(dtype),
                "params": {"w": torch.randn(3, generator=random, dtype=torch.float64).to(dtype)},
            }


def accepts(loss: Loss, given: dict[str, Any]) -> bool:
    try:
        losses.check(loss, given)
    except BadTask:
        return False
    return True


def batches(loss: Loss, *options: Any, **named: Any) -> list[dict[str, Any]]:
    """The batches that a loss accepts; there must be some."""
    found = [given for given in candidates(*options, **named) if accepts(loss, given)]
    assert found, f"{loss.kind} accepts none of the batches that the contract knows"
    return found


def at(given: dict[str, Any], chosen: Any) -> dict[str, Any]:
    """Some of the examples of a batch, in this order."""
    return {name: t[chosen] if isinstance(t, Tensor) else t for name, t in given.items()}


def near(ours: Any, theirs: Any, tolerance: float = 1e-12, why: str = "") -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), tolerance, tolerance, err_msg=why)


def arrays(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: t.numpy() if isinstance(t, Tensor) else {k: v.numpy() for k, v in t.items()}
        for name, t in given.items()
    }


def gradient(loss: Loss, given: dict[str, Any]) -> Tensor:
    """The gradient of the batch's loss in the prediction and in the parameters, one after another."""
    leaves = [given["prediction"], *given["params"].values()]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    total, _ = losses.value(loss, _with(given, *leaves))
    found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in found])


def _with(given: dict[str, Any], prediction: Tensor, *params: Tensor) -> dict[str, Any]:
    """A batch with another prediction and other parameters."""
    return {
        **given,
        "prediction": prediction,
        "params": dict(zip(given["params"], params, strict=True)),
    }


# --- values -----------------------------------------------------------------------------------------------


def check_twin(kind: str, twin: Callable[..., Any] | None = None) -> None:
    """It gives what its literal twin gives, for each example where it is one number each, and for the batch."""
    for seed in (0, 1):
        loss = sample(kind, seed)
        for given in batches(loss, seed):
            needed = arrays({name: given[name] for name in losses.needs(loss)})
            if twin is None:
                expected = reference.follow(loss, needed, losses.needs)
            else:
                expected = twin(**needed, **loss.numbers)
            if losses.per_example(loss):
                near(losses.examples(loss, given), expected)
            near(losses.value(loss, given)[0], np.mean(expected))


def check_twin_exists(kind: str) -> None:
    """A public loss has a twin."""
    if hasattr(losses, kind):
        reference.twin(kind)


def check_shape(kind: str) -> None:
    """One number for each example, one for the batch, and never another type than the prediction's."""
    for dtype in (torch.float32, torch.float64):
        loss = 0.5 * sample(kind)
        data = {path: torch.tensor(n, dtype=torch.float64) for path, n in specs.flatten(loss)}
        for given, h in itertools.product(batches(loss, dtype=dtype), (None, data)):
            total, _ = losses.value(loss, given, h)
            assert total.shape == (), f"{kind}: the loss of a batch is one number, got {list(total.shape)}"
            assert total.dtype == dtype, f"{kind}: {dtype} becomes {total.dtype}"
            if losses.per_example(loss):
                each = losses.examples(loss, given)
                assert each.shape == (EXAMPLES,), (
                    f"{kind}: one number for each example, got {list(each.shape)}"
                )


def check_gradient(kind: str) -> None:
    """Its gradient is the limit of its differences, in float64."""
    loss = sample(kind)
    for given in batches(loss, 2):
        leaves = [t.clone().requires_grad_() for t in (given["prediction"], *given["params"].values())]

        def total(*leaves: Tensor, given: dict[str, Any] = given) -> Tensor:
            return losses.value(loss, _with(given, *leaves))[0]

        if total(*leaves).requires_grad:
            assert torch.autograd.gradcheck(total, tuple(leaves), raise_exception=False), (
                f"{kind}: a wrong gradient"
            )


def check_extremes(kind: str) -> None:
    """Outputs of ±10,000 give finite losses and finite gradients, in float32 too."""
    loss = sample(kind)
    for dtype in (torch.float32, torch.float64):
        for given in batches(loss, 3, dtype):
            for sign in (1.0, -1.0):
                extreme = {**given, "prediction": sign * 1e4 * given["prediction"].sign()}
                assert losses.value(loss, extreme)[0].isfinite(), f"{kind}: not finite at ±1e4"
                assert gradient(loss, extreme).isfinite().all(), f"{kind}: a gradient not finite at ±1e4"
            same = {**given, "prediction": torch.zeros_like(given["prediction"])}
            assert gradient(loss, same).isfinite().all(), f"{kind}: a gradient not finite at equal outputs"


# --- examples, weights, sums ------------------------------------------------------------------------------


def check_order(kind: str) -> None:
    """The order of the examples changes nothing."""
    loss, order = sample(kind), torch.randperm(EXAMPLES, generator=generator(4))
    for given in batches(loss, 4):
        near(
            losses.value(loss, at(given, order))[0],
            losses.value(loss, given)[0],
            why=f"{kind}: the order matters",
        )
        if losses.per_example(loss):
            moved = losses.examples(loss, at(given, order))
            assert equal(moved, losses.examples(loss, given)[order]), f"{kind}: examples see each other"


def check_weight(kind: str) -> None:
    """A weight of 2 is an example seen twice, and a weight of 0 one not seen: the mean is a weighted mean."""
    loss, counts = sample(kind), torch.tensor([2, 1, 0, 3, 1, 0, 1])
    for given in batches(loss, 5):
        weighted = {**given, "weight": counts.to(torch.float64)}
        repeated = at(given, torch.arange(EXAMPLES).repeat_interleave(counts))
        expected, _ = losses.value(loss, repeated)
        near(losses.value(loss, weighted)[0], expected, why=f"{kind} does not honor weights")
        half = {**weighted, "weight": 0.5 * weighted["weight"]}
        near(losses.value(loss, half)[0], expected, why=f"{kind}: the weights' sum matters")


def check_linear(kind: str) -> None:
    """Losses add and scale as numbers do, for examples, batches and gradients."""
    a, b = sample(kind, 6), sample(kind, 7)
    both = 0.7 * a + b * 0.3
    assert losses.needs(both) == losses.needs(a)
    assert losses.per_example(both) == losses.per_example(a)
    for given in batches(both, 6):
        parts = [losses.value(loss, given)[0] for loss in (a, b)]
        near(losses.value(both, given)[0], 0.7 * parts[0] + 0.3 * parts[1])
        near(gradient(both, given), 0.7 * gradient(a, given) + 0.3 * gradient(b, given))
        near(losses.value(a + b + a, given)[0], 2 * parts[0] + parts[1])
        near(losses.value(-1 * a, given)[0], -parts[0])
        if losses.per_example(both):
            each = [losses.examples(loss, given) for loss in (a, b)]
            near(losses.examples(both, given), 0.7 * each[0] + 0.3 * each[1])


# --- fleets -----------------------------------------------------------------------------------------------


def _fleet(kind: str) -> Iterator[tuple[Any, list[dict[str, Any]], list[dict[str, float]]]]:
    """Loss, a batch for each run and numbers for each run, the scales among them."""
    loss = 0.7 * sample(kind) + 0.3 * sample(kind, 1)
    numbers = [
        dict(specs.flatten(0.1 * i * sample(kind, i) + 0.2 * sample(kind, i + 9))) for i in range(RUNS)
    ]
    fitting = [
        list(sets)
        for sets in zip(*(candidates(10 + i) for i in range(RUNS)), strict=True)
        if all(accepts(loss, given) for given in sets)
    ]
    assert fitting, f"{kind} accepts none of the batches that the contract knows"
    for sets in fitting:
        yield loss, sets, numbers


def _together(loss: Loss, given: list[dict[str, Any]], numbers: list[dict[str, float]]) -> Any:
    """Values and gradients of several runs by vmap, each with its own batch and numbers."""
    h = {k: torch.tensor([n[k] for n in numbers], dtype=torch.float64) for k in numbers[0]}
    stacked = torch.utils._pytree.tree_map(lambda *ts: torch.stack(ts), *given)

    def one(given: Any, h: Any) -> tuple[Tensor, Tensor]:
        def total(leaves: Any) -> Tensor:
            return losses.value(loss, _with(given, *leaves), h)[0]

        slopes, out = torch.func.grad_and_value(total)([given["prediction"], *given["params"].values()])
        return (out, *slopes)

    return vmap(one)(stacked, h)


def check_fleet(kind: str) -> None:
    """A run's loss and gradient are bit-equal in fleets of any size and order, its numbers as data."""
    for loss, given, numbers in _fleet(kind):
        whole = _together(loss, given, numbers)
        for chosen in ([0], [RUNS - 1], [3, 1], list(reversed(range(RUNS)))):
            part = _together(loss, [given[i] for i in chosen], [numbers[i] for i in chosen])
            expected = tuple(t[torch.tensor(chosen)] for t in whole)
            assert equal(part, expected), f"{kind}: a run differs in a fleet of {len(chosen)}"


def check_loop(kind: str) -> None:
    """By vmap it gives bit for bit what a loop over the runs gives."""
    for loss, given, numbers in _fleet(kind):
        values, *_ = _together(loss, given, numbers)
        for i, (one, h) in enumerate(zip(given, numbers, strict=True)):
            alone, _ = losses.value(
                loss, one, {k: torch.tensor(n, dtype=torch.float64) for k, n in h.items()}
            )
            assert equal(values[i], alone), f"{kind}: by vmap and by a loop differ"
            near(losses.value(loss, one, h)[0], alone)


def check_traced(kind: str) -> None:
    """Traced to a list of tensor operations it is bit-equal, also for numbers that it was not traced with."""
    loss = 0.5 * sample(kind)
    given = batches(loss, 8)[0]
    h, other = ({k: torch.tensor(n + d) for k, n in specs.flatten(loss)} for d in (0.0, 0.25))

    def total(prediction: Tensor, h: dict[str, Tensor]) -> Tensor:
        return losses.value(loss, {**given, "prediction": prediction}, h)[0]

    traced = make_fx(total)(given["prediction"], h)
    assert equal(traced(given["prediction"], other), total(given["prediction"], other)), (
        f"{kind}: traced differs"
    )


def check_untouched(kind: str) -> None:
    """Nothing that it is given is changed."""
    loss = sample(kind)
    for given in batches(loss, 9):
        before = torch.utils._pytree.tree_map(torch.clone, given)
        losses.check(loss, given)
        losses.value(loss, given)
        assert equal(given, before), f"{kind} changes what it is given"


# --- calls, data, words -----------------------------------------------------------------------------------


def check_call(kind: str) -> None:
    """A plain call is value(); other settings make the same loss with other numbers."""
    loss = sample(kind)
    for given in batches(loss, 11):
        rest = {k: v for k, v in given.items() if k not in ("prediction", "target")}
        assert equal(loss(given["prediction"], given["target"], **rest), losses.value(loss, given)[0])
    own = behavior(loss)
    for name, domain in own.domains.items():
        assert loss(**{name: loss.numbers[name]}) == loss
        for bad in outside(domain):
            with pytest.raises(BadValue, match=f"{kind}\\({name}="):
                loss(**{name: bad})
    for name in own.options:
        with pytest.raises(BadValue, match=f"{kind}\\({name}="):
            loss(**{name: object()})


def check_needs(kind: str) -> None:
    """What it needs and is not given is named; what it declares, it has."""
    loss = sample(kind)
    given = batches(loss, 12)[0]
    least = {name: given[name] for name in losses.needs(loss)}
    losses.value(loss, least)
    for name in losses.needs(loss):
        lacking = {k: v for k, v in least.items() if k != name}
        with pytest.raises(BadTask, match=f"^the loss .* needs {name}, but the batch has"):
            losses.check(loss, lacking)


def check_plain(kind: str) -> None:
    """It survives a trip through JSON, alone, in a sum and with an axis, and prints its kind and numbers."""
    for loss in (sample(kind), 0.7 * sample(kind) + 0.3 * sample(kind, 1), specs.axis(0.1, 1) * sample(kind)):
        again = specs.rebuild(json.loads(json.dumps(specs.plain(loss))))
        assert again == loss
        assert repr(again) == repr(loss)
        assert specs.structure(again) == specs.structure(loss)
        assert kind in repr(loss)


def check_words(kind: str) -> None:
    """Its docstring has an equation, its shapes, its numbers, an example that runs, and the source."""
    own = behavior(Loss(kind))
    if not own.needs:
        return
    check_document(own.function, [*own.domains, *own.options])
    assert "[examples" in (own.function.__doc__ or ""), f"{kind}: no shapes in its docstring"


CHECKS: dict[str, Callable[[str], None]] = {
    "twin": lambda kind: check_twin(kind) if _has_twin(kind) else None,
    "twin_exists": check_twin_exists,
    "shape": check_shape,
    "gradient": check_gradient,
    "extremes": check_extremes,
    "order": check_order,
    "weight": check_weight,
    "linear": check_linear,
    "fleet": check_fleet,
    "loop": check_loop,
    "traced": check_traced,
    "untouched": check_untouched,
    "call": check_call,
    "needs": check_needs,
    "plain": check_plain,
    "words": check_words,
}


def _has_twin(kind: str) -> bool:
    """Whether a kind must follow a twin: public losses must, and sums and scales by those of their terms."""
    try:
        reference.twin(kind)
    except NotFound:
        return not behavior(Loss(kind)).needs
    return True
