"""Optimizers for any PyTorch loop: a shell around any rule, and torch's own by name.

``Optimizer(params, rule)`` runs a composed rule as a real ``torch.optim.Optimizer``. ``SGD``, ``Adadelta``,
``Adafactor``, ``Adagrad``, ``RMSprop``, ``Adam``, ``AdamW``, ``NAdam``, ``RAdam``, ``Adamax``, ``Muon`` and ``LBFGS``
take torch's arguments and give torch's numbers; ``SAM`` is a wrapper around any rule. ``clip_grad_norm_`` and
``clip_grad_value_`` have torch's signatures and results. ``save`` and ``load`` keep an optimizer's state in a
safetensors file, and ``RuleScheduler`` shows the schedules of a rule to trainers that want a torch scheduler.
Parameters of bfloat16 and float16 are trained as float32 ones that are rounded after each step, with moments in
float32. A state dict is found by parameter name where names were given, and torch's own loads by the same class.
"""

from .adadelta import Adadelta
from .adafactor import Adafactor
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .adamax import Adamax
from .clip_grad import clip_grad_norm_, clip_grad_value_
from .composed import Optimizer
from .lbfgs import LBFGS
from .muon import Muon
from .nadam import NAdam
from .radam import RAdam
from .rmsprop import RMSprop
from .rule_scheduler import RuleScheduler
from .sam import SAM
from .saving import flat_state, from_flat_state, load, save
from .sgd import SGD

__all__ = [
    "LBFGS",
    "SAM",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RuleScheduler",
    "clip_grad_norm_",
    "clip_grad_value_",
    "flat_state",
    "from_flat_state",
    "load",
    "save",
]
