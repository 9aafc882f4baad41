"""Named rules, one file each: a docstring, and one expression over the parts of ``fallline.rules``."""

from .adagrad import adagrad
from .adam import adam
from .adamw import adamw
from .momentum import momentum
from .nesterov import nesterov
from .rmsprop import rmsprop
from .sgd import sgd

__all__ = ["adagrad", "adam", "adamw", "momentum", "nesterov", "rmsprop", "sgd"]
