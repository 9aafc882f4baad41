from __future__ import annotations

from ...specs import Number, Rule
from ..base import RATE
from ..compose import chain
from ..making import recipe
from ..quasi_newton import precondition_by_history, search_line
from ..scaling import descend


@recipe(
    search={"lr": (0.01, 1.0)},
    lr=RATE,
    invariances={"sign": {}, "permutation": {}},
    huge="bounded",
)
def lbfgs(lr: Number = 1.0, *, history: int = 10, search: str = "none", trials: int = 10) -> Rule:
    """Newton's method by memory: w ← w − t · H·g, H the inverse Hessian as the last steps show it.

    One iteration a step, for losses over all examples: on a minibatch that changes, the changes of the gradient are
    noise.

    Args:
        lr: t, or the first length that a search tries; at least 0.
        history: how many moves and changes of the gradient are remembered.
        search: none for t = lr, or backtracking or strong_wolfe (see :func:`search_line`).
        trials: how many lengths a search tries.

    >>> lbfgs(search="strong_wolfe").options["trials"]
    10

    Source: Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989. Without a search it
    takes the iterations of ``torch.optim.LBFGS``, one a step, without its tests for an end; ``fl.optim.LBFGS`` has
    torch's arguments.
    """
    newton = precondition_by_history(history)
    if search == "none":
        return chain(newton, descend(lr))
    return chain(newton, search_line(lr, 0.9, search, trials))
