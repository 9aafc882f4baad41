"""Curiosity: bonuses for transitions of a world whose own rewards are rare, each with another idea of what is new.

A :class:`Curiosity` is three pure functions of plain tensors: ``init(seed)`` gives its state, ``bonus(state, seen)`` a
number for each of [n] transitions, ``learn(state, seen)`` the state after them. A bonus is judged before the
transitions are learned from. All of it works under ``torch.func.vmap``, with a state for each run, and every number is
data (``h``) there, so that it may be an axis of a fleet. How much a bonus counts beside the world's reward is for who
adds them.

    counts              how rarely the place was seen: fooled by noise with many values
    icm                 how wrong a model of the consequences is, in features that tell actions apart: fooled by noise
                        that actions control
    rnd                 how wrong a network that imitates a random one is: falls with visits, as counts do, and
                        generalizes
    learning_progress   how fast such an error falls: noise teaches nothing, and is dull
"""

from .base import Curiosity, Transition
from .networks import icm, rnd
from .progress import learning_progress
from .visits import counts

__all__ = ["Curiosity", "Transition", "counts", "icm", "learning_progress", "rnd"]
