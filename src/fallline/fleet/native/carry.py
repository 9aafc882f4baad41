"""The loop around a step in C: over runs, and over the steps of each, in the same memory."""

from __future__ import annotations

from collections.abc import Sequence

from ...native.pointwise import C_TYPES
from ...native.recording import Layout
from .graphs import numel
from .memory import LINE


class Carry:
    """What a run takes from step to step, and the function that goes over runs and steps.

    What has to be found as it was, where a run does not go on, is read from one place and written to another; the two
    take turns. The second place is the same memory for all runs. The rest is changed where it is.

    Args:
        layouts: of each carried tensor; the last one says whether the run goes on.
        turns: whether it has two places.
        begin: where the second places begin in the scratch memory.
    """

    def __init__(self, layouts: Sequence[Layout], turns: Sequence[bool], begin: int) -> None:
        self.layouts, self.turns = layouts, turns
        self.sizes = [numel(layout.shape) * layout.dtype.itemsize for layout in layouts]
        self.places, self.end = [], begin
        for size, two in zip(self.sizes, turns, strict=True):
            self.places.append(self.end)
            self.end += -(-size // LINE) * LINE if two else 0

    def function(self, step: Sequence[str]) -> str:
        """The text of the function, from that of a step of a run.

        ``p`` holds the addresses of arguments, constants and results; ``by_step`` how many entries lie between two
        steps of each argument and result. ``left`` is told at which step each run did not go on, or −1.
        """
        every = range(len(self.layouts))
        last = len(self.layouts) - 1
        return _FUNCTION.format(
            homes=_indented([line for i in every for line in self._home(i)], 4),
            gone="0" if last < 0 else f"!*h{last}",
            step=_indented([*(line for i in every for line in self._begin(i)), *step], 6),
            ended="0" if last < 0 or not self.turns[last] else f"!*b{last}",
            back=_indented([f"memcpy(h{i}, s{i}, {self.sizes[i]});" for i in every if self.turns[i]], 6),
            leave="" if last < 0 else f"if (left[r] >= 0) *h{last} = 0;",
        )

    def _home(self, i: int) -> list[str]:
        kind = C_TYPES[self.layouts[i].dtype]
        lines = [f"{kind} *const h{i} = ({kind} *)p[{i}] + r * {numel(self.layouts[i].shape)};"]
        if self.turns[i]:
            lines.append(f"{kind} *const s{i} = ({kind} *)(scratch + {self.places[i]});")
        return lines

    def _begin(self, i: int) -> list[str]:
        kind = C_TYPES[self.layouts[i].dtype]
        if not self.turns[i]:
            return [f"{kind} *const a{i} = h{i};"]
        return [
            f"const {kind} *const a{i} = k & 1 ? s{i} : h{i};",
            f"{kind} *const b{i} = k & 1 ? h{i} : s{i};",
        ]


def _indented(lines: Sequence[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)


_FUNCTION = """#include "prelude.h"

int run(void **p, const long *by_step, long runs, long steps, char *scratch, long *left) {{
  int bad = 0;
  for (long r = 0; r < runs; r++) {{
    long k = 0;
{homes}
    left[r] = -1;
    if ({gone}) continue;
    for (; k < steps; k++) {{
{step}
      if ({ended}) {{
        left[r] = k;
        break;
      }}
    }}
    if (k & 1) {{
{back}
    }}
    {leave}
  }}
  return bad;
}}
"""
