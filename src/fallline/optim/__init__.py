"""Optimizers for any PyTorch loop: a shell around any rule, and torch's own by name.

``Optimizer(params, rule)`` runs a composed rule as a real ``torch.optim.Optimizer``. ``SGD``, ``Adagrad``,
``RMSprop``, ``Adam``, ``AdamW``, ``Muon`` and ``LBFGS`` take torch's arguments and give torch's numbers; ``SAM`` is
a wrapper around any rule; ``clip_grad_norm_`` and ``clip_grad_value_`` have torch's signatures and results.
"""

from .adagrad import Adagrad
from .adam import Adam, AdamW
from .clip_grad import clip_grad_norm_, clip_grad_value_
from .composed import Optimizer
from .lbfgs import LBFGS
from .muon import Muon
from .rmsprop import RMSprop
from .sam import SAM
from .sgd import SGD

__all__ = [
    "LBFGS",
    "SAM",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Muon",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
]
