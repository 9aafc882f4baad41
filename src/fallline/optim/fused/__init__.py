"""A rule that treats each entry alone, as one pass over all parameters: gradient in, parameters and state in place.

Bytes bound it: AdamW in float32 reads four numbers of each weight and writes three, and the clip by norm reads the
gradient once more. Its slow twin is ``rules.update``; ``prove`` compares the two before a program is used.
"""

from .program import Program, prove
from .runner import Runner, total_norm

__all__ = ["Program", "Runner", "prove", "total_norm"]
