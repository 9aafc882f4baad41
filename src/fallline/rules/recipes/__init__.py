"""Named rules, one file each: a docstring, and one expression over the parts of ``fallline.rules``."""

from .adabelief import adabelief
from .adadelta import adadelta
from .adafactor import adafactor
from .adagrad import adagrad
from .adam import adam
from .adamax import adamax
from .adamw import adamw
from .adopt import adopt
from .amsgrad import amsgrad
from .kfac import kfac
from .lamb import lamb
from .lbfgs import lbfgs
from .lion import lion
from .momentum import momentum
from .muon import muon
from .nadam import nadam
from .natural_gradient import natural_gradient
from .nesterov import nesterov
from .prodigy import prodigy
from .radam import radam
from .rmsprop import rmsprop
from .schedule_free_adamw import schedule_free_adamw
from .schedule_free_sgd import schedule_free_sgd
from .sgd import sgd
from .shampoo import shampoo
from .soap import soap

__all__ = [
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adopt",
    "amsgrad",
    "kfac",
    "lamb",
    "lbfgs",
    "lion",
    "momentum",
    "muon",
    "nadam",
    "natural_gradient",
    "nesterov",
    "prodigy",
    "radam",
    "rmsprop",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "sgd",
    "shampoo",
    "soap",
]
