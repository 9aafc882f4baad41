"""One run, at the speed of a plain loop: a fleet of one, with what a single training needs."""

from .loop import train
from .ranks import alone
from .template import module, template
from .trained import Plan, Trained

__all__ = ["Plan", "Trained", "alone", "module", "template", "train"]
