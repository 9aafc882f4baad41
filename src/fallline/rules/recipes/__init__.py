"""Named rules, one file each: a docstring, and one expression over the parts of ``fallline.rules``."""

from .adagrad import adagrad
from .adam import adam
from .adamw import adamw
from .kfac import kfac
from .lbfgs import lbfgs
from .momentum import momentum
from .muon import muon
from .natural_gradient import natural_gradient
from .nesterov import nesterov
from .rmsprop import rmsprop
from .sgd import sgd
from .shampoo import shampoo
from .soap import soap

__all__ = [
    "adagrad",
    "adam",
    "adamw",
    "kfac",
    "lbfgs",
    "momentum",
    "muon",
    "natural_gradient",
    "nesterov",
    "rmsprop",
    "sgd",
    "shampoo",
    "soap",
]
