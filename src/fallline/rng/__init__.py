"""Randomness by counting: (run seed, step, call site, element) → a number, by a hash, with no hidden state."""

from .counters import fold, mix, normal, order, seed_for, seeded, uniform
from .noise import Noise, untouched
from .replaced import Rate

__all__ = ["Noise", "Rate", "fold", "mix", "normal", "order", "seed_for", "seeded", "uniform", "untouched"]
