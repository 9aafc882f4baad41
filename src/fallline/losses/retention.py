"""Losses that keep what an older model knows: near its weights, evenly or by importance, or near its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import BadTask
from ..specs import Domain
from ..types import Tree
from . import held
from .base import define

NEW = Domain("the decay of weights that the old model does not have", low=0.0)
OLD = Domain("the pull to the old weights", low=0.0)
TEMPERATURE = Domain("the temperature of both softmaxes", low=0.0, open_low=True)


# --- near the old weights ---------------------------------------------------------------------------------


def _fits(old: Tree, params: Tree) -> None:
    """Refuse old weights that are not of this model."""
    unknown = sorted(set(old) - set(params))
    if unknown:
        raise BadTask(
            f"the old weights have {', '.join(unknown)}, but the model trains {', '.join(params)}: pass those that both "
            "have, as in {name: p for name, p in old.named_parameters() if name in …}"
        )
    for name, t in old.items():
        if t.shape != params[name].shape:
            raise BadTask(
                f"the old weights have {name} of shape {list(t.shape)}, and the model's is {list(params[name].shape)}: "
                f"leave {name} out of them where the new task needs another shape"
            )


@define(
    needs=("params",), scope="params", check=lambda given: _fits(given.old, given.params),
    options={"old": (held.WEIGHTS, None)}, alpha=(OLD, 0.1), beta=(NEW, 0.01),
)  # fmt: skip
def l2_sp(given: Any, h: Any) -> Tensor:
    """Stay near the weights of an old model: Ω = α/2 · ‖w_S − w_S⁰‖² + β/2 · ‖w_N‖² (L2-SP).

    One number for the parameters, whatever the batch [examples, …] is. S are the parameters that the old model has,
    N those that are new (another head); the old weights are stored once, for all runs of a fleet.

    Args:
        old: the old weights w⁰: tensors by the names of parameters, or the old model.
        alpha: the pull α to the old weights, at least 0.
        beta: the decay β of the new weights, at least 0.

    >>> import torch
    >>> from fallline import losses
    >>> near = l2_sp(old={"body": torch.tensor([1.0, 2.0])}, alpha=1.0, beta=1.0)
    >>> weights = {"body": torch.tensor([1.0, 4.0]), "head": torch.tensor([1.0])}
    >>> losses.value(near, {"params": weights})[0]
    tensor(2.5000)

    Source: Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks"
    (ICML 2018), equation 3; with β at its value for weight decay and no old weights it is plain L2.
    """
    old: Tree = given.old
    terms = []
    for name, p in given.params.items():
        pull, offset = (h.alpha, p - held.like(old, p, name)) if name in old else (h.beta, p)
        terms.append((0.5 * pull * (offset**2).sum()).to(p.dtype))
    return torch.stack(terms).sum()


def _important(given: Any) -> None:
    _fits(given.old, given.params)
    if set(given.fisher) != set(given.old):
        odd = sorted(set(given.fisher) ^ set(given.old))
        raise BadTask(
            f"the Fisher information and the old weights differ in {', '.join(odd)}: compute it for the same model, as "
            "in fl.losses.fisher_diagonal(old, data)"
        )
    for name, f in given.fisher.items():
        if f.shape != given.old[name].shape:
            raise BadTask(
                f"the Fisher information of {name} is {list(f.shape)} for weights {list(given.old[name].shape)}: it "
                "needs one number for each weight"
            )
        if not bool((f >= 0).all()):
            raise BadTask(
                f"the Fisher information of {name} has numbers below 0: it is a mean of squares, at least 0"
            )


@define(
    needs=("params",), scope="params", check=_important,
    options={"old": (held.WEIGHTS, None), "fisher": (held.WEIGHTS, None)},
)  # fmt: skip
def elastic(given: Any, h: Any) -> Tensor:
    """Elastic weights: hold each weight by its importance for an old task, Ω = ½ Σ_i F_i (w_i − w_i⁰)² (EWC).

    One number for the parameters, whatever the batch [examples, …] is. The strength λ is the loss's weight in a
    sum: ``cross_entropy + lam * elastic(old=…, fisher=…)``. Several old tasks add:
    ``lam * (elastic(old=a, fisher=f) + elastic(old=b, fisher=g))``. Parameters that the old task did not have are free.

    Args:
        old: the weights w⁰ at the end of the old task: tensors by the names of parameters, or the old model.
        fisher: the importance F_i ≥ 0 of each, from :func:`fallline.losses.fisher_diagonal`.

    >>> import torch
    >>> from fallline import losses
    >>> old, fisher = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, 0.0])}
    >>> losses.value(elastic(old=old, fisher=fisher), {"params": {"w": torch.tensor([2.0, 9.0])}})[0]
    tensor(2.)

    Source: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks" (PNAS 2017), equation 3.
    """
    terms = [
        0.5 * (held.like(given.fisher, p, name) * (p - held.like(given.old, p, name)) ** 2).sum()
        for name, p in given.params.items()
        if name in given.old
    ]
    return torch.stack(terms).sum()


# --- near the old outputs ---------------------------------------------------------------------------------


def _few(given: Any) -> tuple[Any, Tensor]:
    """Inputs and logits of as many examples: a task is looked at with few inputs and many targets."""
    n = min(len(t) for t in [given.prediction, *pytree.tree_leaves(given.inputs)])
    return pytree.tree_map(lambda t: t[:n], given.inputs), given.prediction[:n]


def _classes(given: Any) -> None:
    inputs, logits = _few(given)
    if logits.ndim < 2 or not logits.is_floating_point():
        raise BadTask(f"distillation needs logits [examples, classes], the model gives {list(logits.shape)}")
    try:
        old = held.outputs(given.old, inputs, logits)
    except Exception as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadTask(
            f"the old model {type(given.old).__name__} does not take the task's inputs: {said}"
        ) from error
    if not isinstance(old, Tensor) or old.shape != logits.shape:
        got = list(old.shape) if isinstance(old, Tensor) else f"a {type(old).__name__}"
        raise BadTask(
            f"the old model gives {got} and the new one {list(logits.shape)}: distillation compares their logits class by "
            "class, so both need the same outputs"
        )


@define(
    needs=("prediction", "inputs"), check=_classes, options={"old": (held.MODEL, None)},
    temperature=(TEMPERATURE, 2.0),
)  # fmt: skip
def distillation(given: Any, h: Any) -> Tensor:
    """Stay near an old model's outputs: ℓ = T² · KL(p ‖ q), with p = softmax(z⁰/T) and q = softmax(z/T), in nats.

    The factor T² keeps the size of the gradient when T changes. prediction: logits z [examples, classes, …],
    averaged over further axes; the old model is asked for z⁰ on the same inputs (augmented ones too), without dropout
    and without a gradient. It is stored once, for all runs of a fleet, and costs one forward pass a step.

    Args:
        old: the old model, an ``nn.Module``; a copy is kept.
        temperature: T above 0; larger ones compare the small probabilities too.

    >>> import torch
    >>> old = torch.nn.Linear(2, 3)
    >>> x = torch.ones(4, 2)
    >>> bool(distillation(old=old)(old(x), torch.zeros(4), inputs=x).abs() < 1e-6)
    True

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015), section 2; Li and Hoiem,
    "Learning without forgetting" (2016), who use its cross-entropy, of the same gradient, without T².
    """
    new = given.prediction
    old = held.outputs(given.old, given.inputs, new)
    p, q = ((z - z.detach().amax(1, keepdim=True)) / h.temperature for z in (old, new))
    p, q = (z - z.exp().sum(1, keepdim=True).log() for z in (p, q))
    each = h.temperature**2 * (p.exp() * (p - q)).sum(1)
    return each.flatten(1).mean(1) if each.ndim > 1 else each
