"""Programs in C: the operations of one run as one function, called for each run of a block.

A run's variables and intermediate results stay in the processor's nearest cache from the first operation of a step
to the last, and nothing of a run's digits can depend on its neighbors, since each run is computed by itself.
"""

from .library import Library, Loop, compiler, scratch
from .rewrites import table
from .source import Unwritable, write

__all__ = ["Library", "Loop", "Unwritable", "compiler", "scratch", "table", "write"]
