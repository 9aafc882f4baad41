"""Muon with torch's arguments and numbers."""

from __future__ import annotations

from typing import Any

from ..errors import BadValue
from ..rules import chain, descend, orthogonalize, shrink, smooth, smooth_ahead
from ..rules.base import DECAY, RATE, UNIT
from ..rules.orthogonal import NORM
from ..rules.spectra import QUINTIC
from ..specs import Rule
from .form import Form
from .plan import Group
from .shell import Shell

MUON = {"lr": RATE, "weight_decay": DECAY, "momentum": UNIT, "eps": NORM}
SCALES = ("original", "match_rms_adamw")


class Muon(Shell):
    """Momentum made orthogonal: w ← w − lr · scale · U·Vᵀ − lr · weight_decay · w, as in ``fl.rules.muon``.

    Args:
        params: matrices, groups of them, or ``model.named_parameters()`` of a model of matrices. Embeddings, output
            layers and vectors belong to another optimizer, or take ``fl.optim.Optimizer(params, fl.rules.muon())``.
        lr: the learning rate; at least 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.
        momentum: the share of the running mean that is kept, in [0, 1).
        nesterov: whether the mean is taken one step further on.
        ns_coefficients: the three coefficients of a Newton–Schulz step.
        eps: the norm below which a matrix counts as zero; above 0.
        ns_steps: Newton–Schulz steps.
        adjust_lr_fn: the scale: original, √max(1, rows/columns), or match_rms_adamw, 0.2 · √max(rows, columns); None
            for original.

    >>> import torch
    >>> optimizer = Muon([torch.nn.Linear(4, 2).weight], lr=0.02)

    Source: ``torch.optim.Muon`` (from torch 2.9 on), which it equals; products are in bfloat16, as there.
    Of bfloat16 gradients without Nesterov's momentum torch's scales its buffer in place (seen in 2.13); this does not.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = QUINTIC,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        given = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": tuple(ns_coefficients), "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
            "maximize": False,
        }  # fmt: skip
        super().__init__(params, given, Form("Muon", muon, MUON))

    def add_param_group(self, param_group: Group) -> None:
        """Add matrices with their own numbers."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.ndim != 2:
                del self.param_groups[-1]
                raise BadValue(
                    f"Muon takes matrices, got a parameter of shape {list(p.shape)}: give the rest to AdamW, or all to "
                    "fl.optim.Optimizer(params, fl.rules.muon()), which does so"
                )


def muon(group: Group) -> Rule:
    """The rule of a parameter group of ``Muon``."""
    scale = group["adjust_lr_fn"] or "original"
    if scale not in SCALES:
        raise BadValue(f"Muon(adjust_lr_fn={scale!r}): it is original, match_rms_adamw or None")
    mean = smooth_ahead(group["momentum"]) if group["nesterov"] else smooth(group["momentum"])
    turned = orthogonalize(group["eps"], group["ns_steps"], scale, "bfloat16", group["ns_coefficients"])
    return chain(mean, turned, descend(group["lr"]), shrink(group["lr"], group["weight_decay"]))
