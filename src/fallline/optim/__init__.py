"""Optimizers for any PyTorch loop: a shell around any rule, and torch's own by name.

``Optimizer(params, rule)`` runs a composed rule as a real ``torch.optim.Optimizer``. ``SGD``, ``Adagrad``,
``RMSprop``, ``Adam`` and ``AdamW`` take torch's arguments and give torch's numbers; ``clip_grad_norm_`` and
``clip_grad_value_`` have torch's signatures and results. ``save`` and ``load`` keep an optimizer's state in a
safetensors file, and ``RuleScheduler`` shows the schedules of a rule to trainers that want a torch scheduler.
Parameters of bfloat16 and float16 are trained as float32 ones that are rounded after each step, with moments in
float32. A state dict is found by parameter name where names were given, and torch's own loads by the same class.
"""

from .adagrad import Adagrad
from .adam import Adam, AdamW
from .clip_grad import clip_grad_norm_, clip_grad_value_
from .composed import Optimizer
from .rmsprop import RMSprop
from .rule_scheduler import RuleScheduler
from .saving import flat_state, from_flat_state, load, save
from .sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "RuleScheduler",
    "clip_grad_norm_",
    "clip_grad_value_",
    "flat_state",
    "from_flat_state",
    "load",
    "save",
]
