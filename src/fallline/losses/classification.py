"""Losses for classes, from logits: what comes before a softmax or a sigmoid."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import BadTask
from ..specs import Domain
from .base import define

ROUNDING = 1e-3
"""How far sums of probabilities may be from 1: what half precision leaves of them."""


def _classes(name: str, *, soft: bool = False) -> Any:
    """A check for logits [examples, classes, …] and class numbers, or where that is allowed shares of classes."""

    def check(given: Any) -> None:
        prediction, target = given.prediction, given.target
        if prediction.ndim < 2 or not prediction.is_floating_point():
            raise BadTask(
                f"{name} needs logits [examples, classes], the model gives {list(prediction.shape)}"
            )
        _refuse_probabilities(name, prediction)
        if soft and target.is_floating_point() and target.shape == prediction.shape:
            _check_shares(name, target)
            return
        whole = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
        if not whole or target.shape != (prediction.shape[0], *prediction.shape[2:]):
            or_shares = f", or shares of classes {list(prediction.shape)} of a floating type," if soft else ""
            raise BadTask(
                f"{name} needs class numbers {[prediction.shape[0], *prediction.shape[2:]]} of an integer type{or_shares} "
                f"for logits {list(prediction.shape)}, the target is {list(target.shape)} of {target.dtype}"
            )
        low, high, classes = int(target.min()), int(target.max()), prediction.shape[1]
        if low < 0 or high >= classes:
            remedy = f"give the model {high + 1} outputs, or number the labels from 0"
            raise BadTask(
                f"the labels go from {low} to {high}, but the model has {classes} outputs, for the labels 0 to "
                f"{classes - 1}: {'number the labels from 0' if low < 0 else remedy}"
            )

    return check


def _refuse_probabilities(name: str, prediction: Tensor) -> None:
    """Refuse outputs that are all at least 0 and sum to 1 for each example: no logits do that but by design."""
    if prediction.shape[1] > 1 and bool((prediction >= 0).all()):
        far = (prediction.sum(1) - 1).abs().max()
        if bool(far < ROUNDING):
            raise BadTask(
                f"{name} is given probabilities: the outputs are at least 0 and sum to 1; it takes logits and has the "
                "softmax inside, so that it would be applied twice: take the softmax out of the model"
            )


def _check_shares(name: str, target: Tensor) -> None:
    sums = target.sum(1)
    worst = sums.flatten()[(sums - 1).abs().argmax()]
    if bool((target < 0).any()) or bool((worst - 1).abs() > ROUNDING):
        raise BadTask(
            f"targets of {name} that are shares of classes are at least 0 and sum to 1 for each example; the smallest is "
            f"{float(target.min()):.4g}, and one sum is {float(worst):.4g}"
        )


def _log_shares(z: Tensor) -> Tensor:
    """log softmax along the classes, without overflow."""
    z = z - z.detach().amax(1, keepdim=True)
    return z - z.exp().sum(1, keepdim=True).log()


def _chosen(x: Tensor, target: Tensor) -> Tensor:
    """The entries of the target's classes."""
    return x.gather(1, target.long().unsqueeze(1)).squeeze(1)


def _own(z: Tensor, target: Tensor) -> Tensor:
    """Which entry of the logits is the target's class."""
    numbers = torch.arange(z.shape[1], device=z.device).reshape(-1, *[1] * (z.ndim - 2))
    return numbers == target.unsqueeze(1)


def _averaged(each: Tensor) -> Tensor:
    """Over what one example holds."""
    return each.flatten(1).mean(1) if each.ndim > 1 else each


SMOOTHING = Domain("the share of each target that is spread over all classes alike", low=0.0, high=1.0)


@define(
    needs=("prediction", "target"),
    logits=True,
    check=_classes("smoothed_cross_entropy", soft=True),
    smoothing=(SMOOTHING, 0.1),
)
def smoothed_cross_entropy(given: Any, h: Any) -> Tensor:
    """Cross-entropy with smoothed labels, for each example, in nats: ℓ = −Σ_k ((1 − ε) t_k + ε / K) log softmax(z)_k.

    A share ε of each target is spread over all K classes alike, so that no logit has to grow without end. prediction:
    logits [examples, classes, …]; target: as for ``cross_entropy``.

    Args:
        smoothing: ε, the share that is spread; from 0 to 1.

    >>> import torch
    >>> smoothed_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.6931)

    Source: Szegedy et al., Rethinking the inception architecture, 2016; equals ``torch.nn.functional.cross_entropy``
    with its ``label_smoothing``.
    """
    log_p, target = _log_shares(given.prediction), given.target
    hit = (target * log_p).sum(1) if target.is_floating_point() else _chosen(log_p, target)
    return _averaged(-((1 - h.smoothing) * hit + h.smoothing * log_p.mean(1)))


@define(
    needs=("prediction", "target"),
    logits=True,
    check=_classes("cross_entropy", soft=True),
    others={"smoothing": smoothed_cross_entropy},
)
def cross_entropy(given: Any, h: Any) -> Tensor:
    """Cross-entropy from logits, for each example, in nats: ℓ = −Σ_k t_k log softmax(z)_k; for a class y, log Σ_k exp(z_k) − z_y.

    The softmax is inside: a model that ends in a softmax of its own would apply it twice, and its outputs, which are at
    least 0 and sum to 1, are refused. prediction: logits [examples, classes, …]; target: class numbers [examples, …]
    from 0 to classes − 1, or shares of classes [examples, classes, …] that sum to 1, one-hot ones among them; averaged
    over further axes. ``cross_entropy(smoothing=0.1)`` is ``smoothed_cross_entropy``.

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.6931)

    Source: the lecture's slide on cross-entropy, with one-hot targets; equals ``torch.nn.functional.cross_entropy``.
    """
    if given.target.is_floating_point():
        return _averaged(-(given.target * _log_shares(given.prediction)).sum(1))
    z = given.prediction
    z = z - z.detach().amax(1, keepdim=True)  # the same softmax, without overflow
    return _averaged(z.exp().sum(1).log() - _chosen(z, given.target))


# --- two classes ------------------------------------------------------------------------------------------


def truths(given: Any) -> Tensor:
    """The target as numbers of the prediction's type and shape; [examples] fits [examples, 1]."""
    truth: Tensor = given.target.to(given.prediction.dtype).reshape(given.prediction.shape)
    return truth


def _fits(prediction: Tensor, target: Tensor) -> bool:
    return target.shape == prediction.shape or (*target.shape, 1) == tuple(prediction.shape)


def _yes_or_no(name: str) -> Any:
    """A check for logits and truths from 0 to 1 of one shape."""

    def check(given: Any) -> None:
        prediction, target = given.prediction, given.target
        if not prediction.is_floating_point() or not _fits(prediction, target) or target.is_complex():
            raise BadTask(
                f"{name} needs a target of the outputs' shape {list(prediction.shape)}, or without its last 1, the target is "
                f"{list(target.shape)} of {target.dtype}: give the model one output for each yes or no"
            )
        low, high = float(target.min()), float(target.max())
        if not (low >= 0 and high <= 1):
            raise BadTask(f"{name} needs targets from 0 (no) to 1 (yes), they go from {low:g} to {high:g}")

    return check


def log_sigmoid(z: Tensor) -> Tensor:
    """log σ(z) = −log(1 + exp(−z)), without overflow."""
    most = (-z).detach().clamp(min=0)
    return -most - ((-most).exp() + (-z - most).exp()).log()


POSITIVE = Domain(
    "how much an example that is a yes counts, against one that is a no", low=0.0, open_low=True
)


@define(
    needs=("prediction", "target"),
    logits=True,
    check=_yes_or_no("binary_cross_entropy"),
    positive=(POSITIVE, 1.0),
)
def binary_cross_entropy(given: Any, h: Any) -> Tensor:
    """Cross-entropy of yes or no from logits, for each example, in nats: ℓ = −(w · t log σ(z) + (1 − t) log(1 − σ(z))).

    The sigmoid is inside: a model that ends in a sigmoid would apply it twice. prediction: logits [examples] or
    [examples, labels, …]; target: truths from 0 to 1 of the same shape, or [examples] for [examples, 1]; averaged over
    labels.

    Args:
        positive: w, how much a yes counts against a no; above 0.

    >>> import torch
    >>> binary_cross_entropy(torch.tensor([0.0, 0.0]), torch.tensor([1, 0]))
    tensor(0.6931)

    Source: equals ``torch.nn.functional.binary_cross_entropy_with_logits``, w being its ``pos_weight``.
    """
    z, t = given.prediction, truths(given)
    return _averaged(-(h.positive * t * log_sigmoid(z) + (1 - t) * log_sigmoid(-z)))


GAMMA = Domain("how strongly examples that are known well are left alone", low=0.0)


def _yes_no_or_classes(name: str) -> Any:
    """A check for what is either: outputs of the target's shape are yes or no, others are logits of classes."""
    binary, classes = _yes_or_no(name), _classes(name)

    def check(given: Any) -> None:
        (binary if _fits(given.prediction, given.target) else classes)(given)

    return check


@define(needs=("prediction", "target"), logits=True, check=_yes_no_or_classes("focal"), gamma=(GAMMA, 2.0))
def focal(given: Any, h: Any) -> Tensor:
    """The focal loss from logits, for each example, in nats: ℓ = −(1 − p)^γ log p, p the probability of the truth.

    What is known well already counts little, so that rare and hard examples are heard; γ = 0 is the cross-entropy.
    prediction: logits [examples, classes, …] with class numbers [examples, …] as target, or [examples] or
    [examples, labels, …] with truths from 0 to 1 of the same shape; averaged over what one example holds.

    Args:
        gamma: γ, how strongly what is known well is left alone; at least 0.

    >>> import torch
    >>> focal(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.1733)

    Source: Lin et al., Focal loss for dense object detection, 2017, without its weight α of the classes, which the
    weights of examples are for.
    """
    z, target = given.prediction, given.target
    if _fits(z, target):
        t, yes, no = truths(given), log_sigmoid(z), log_sigmoid(-z)
        return _averaged(-(t * (h.gamma * no).exp() * yes + (1 - t) * (h.gamma * yes).exp() * no))
    log_p = _log_shares(z)
    own = _own(z, target)
    others = torch.where(own, torch.full_like(log_p, -torch.inf), log_p)
    most = others.detach().amax(1, keepdim=True)
    rest = (others - most).exp().sum(1).log() + most.squeeze(1)  # log(1 − p)
    return _averaged(-(h.gamma * rest).exp() * _chosen(log_p, target))


def _signs(given: Any) -> None:
    prediction, target = given.prediction, given.target
    if not _fits(prediction, target):
        _classes("hinge")(given)
        return
    found = set(target.unique().tolist())
    if not found <= {0, 1} and not found <= {-1, 1}:
        shown = ", ".join(f"{value:g}" for value in sorted(found)[:4])
        raise BadTask(
            f"hinge needs targets 0 and 1, or −1 and 1, for outputs of their shape; they have {shown}"
        )


@define(needs=("prediction", "target"), logits=True, check=_signs)
def hinge(given: Any, h: Any) -> Tensor:
    """The hinge loss, for each example: ℓ = max(0, 1 − s · f(x)); for classes max(0, 1 + max_{k ≠ y} f_k(x) − f_y(x)).

    An example that is right by a margin of 1 costs nothing. prediction: [examples] or [examples, labels, …] with signs s of
    the same shape, given as −1 and 1 or as 0 and 1; or [examples, classes, …] with class numbers [examples, …]; averaged
    over what one example holds.

    >>> import torch
    >>> hinge(torch.tensor([0.5, -3.0]), torch.tensor([1, 0]))
    tensor(0.2500)

    Source: Cortes and Vapnik, Support-vector networks, 1995; Crammer and Singer, 2001, for classes. scikit-learn's
    ``hinge_loss`` gives the same numbers.
    """
    f, target = given.prediction, given.target
    if _fits(f, target):
        sign = torch.where(truths(given) > 0, 1.0, -1.0).to(f.dtype)
        return _averaged((1 - sign * f).clamp(min=0))
    own = _own(f, target)
    rival = torch.where(own, torch.full_like(f, -torch.inf), f).amax(1)
    return _averaged((1 + rival - _chosen(f, target)).clamp(min=0))
