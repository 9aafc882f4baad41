"""A torch scheduler for trainers that ask for one, where the rule has its schedules already."""

from __future__ import annotations

from typing import Any

import torch


class RuleScheduler(torch.optim.lr_scheduler.LRScheduler):
    """Tell a trainer the learning rates that the rule's own schedules give, and change nothing.

    Some trainers (the Hugging Face ``Trainer``) make a scheduler where they are given none, and it would fight with
    a schedule in the rule. This one keeps them content. A group whose rule has several rates tells the largest.

    Args:
        optimizer: an optimizer of ``fl.optim``.

    >>> from fallline import optim, rules, schedules
    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = optim.Optimizer([w], rules.sgd(lr=schedules.inverse_time(1.0)))
    >>> scheduler = RuleScheduler(optimizer)
    >>> w.grad = torch.ones(1)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        # without the initializer of torch's, which writes into the groups and needs one rate in each
        self.optimizer = optimizer
        self.last_epoch = 0
        self.base_lrs: list[Any] = self.get_lr()
        self._last_lr: list[Any] = self.get_lr()

    def get_lr(self) -> list[Any]:
        """The rate of each group at the next step; NaN where its rule has none."""
        return [_largest_rate(group) for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Look at the rates, which the optimizer's own step has moved."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr = self.get_lr()


def _largest_rate(group: dict[str, Any]) -> float:
    rates = [float(value) for key, value in group.items() if key.rpartition(".")[2] == "lr"]
    return max(rates, default=float("nan"))
