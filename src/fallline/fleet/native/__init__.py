"""Programs in C: the operations of one run as one function, called for each run of a block.

A run's variables and intermediate results stay in the processor's nearest cache from the first operation of a step
to the last, and nothing of a run's digits can depend on its neighbors, since each run is computed by itself.
"""

from ...native.compiling import compiler
from ...native.pointwise import Unwritable
from .library import Library
from .rewrites import table
from .source import write

__all__ = ["Library", "Unwritable", "compiler", "table", "write"]
