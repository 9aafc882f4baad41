"""The loop around a step in C: over runs, and over the steps of each, in the same memory."""

from __future__ import annotations

from collections.abc import Sequence

from ..recording import Layout
from .graphs import numel
from .memory import LINE
from .pointwise import C_TYPES


class Carry:
    """What a run takes from step to step, and the function that goes over runs and steps.

    A step reads it from one place and writes it to another, so that a step after which a run does not go on leaves
    all as it was; the two places take turns. The second place is the same memory for all runs.

    Args:
        layouts: of each carried tensor; the last one says whether the run goes on.
        changed: whether a step changes it.
        begin: where the second place begins in the scratch memory.
    """

    def __init__(self, layouts: Sequence[Layout], changed: Sequence[bool], begin: int) -> None:
        self.layouts, self.changed = layouts, changed
        self.places, self.end = [], begin
        for layout, changes in zip(layouts, changed, strict=True):
            self.places.append(self.end)
            self.end += -(-numel(layout.shape) * layout.dtype.itemsize // LINE) * LINE if changes else 0

    def function(self, step: Sequence[str]) -> str:
        """The text of the function, from that of a step of a run.

        ``p`` holds the addresses of arguments, constants and results; ``by_step`` how many entries lie between two steps
        of each argument and result. ``left`` is told at which step each run did not go on, or −1.
        """
        homes = [f"{self._kind(i)} *const h{i} = {self._home(i)};" for i in range(len(self.layouts))]
        begin = [line for i in range(len(self.layouts)) for line in self._begin(i)]
        back = [
            f"memcpy(h{i}, scratch + {self.places[i]}, {numel(layout.shape) * layout.dtype.itemsize});"
            for i, layout in enumerate(self.layouts)
            if self.changed[i]
        ]
        last = len(self.layouts) - 1
        return _FUNCTION.format(
            homes=_indented(homes, 4),
            gone="0" if last < 0 else f"!*h{last}",
            step=_indented([*begin, *step], 6),
            ended="0" if last < 0 or not self.changed[last] else f"!*b{last}",
            back=_indented(back, 6),
            leave="" if last < 0 else f"if (left[r] >= 0) *h{last} = 0;",
        )

    def _kind(self, i: int) -> str:
        return C_TYPES[self.layouts[i].dtype]

    def _home(self, i: int) -> str:
        return f"({self._kind(i)} *)p[{i}] + r * {numel(self.layouts[i].shape)}"

    def _begin(self, i: int) -> list[str]:
        kind = self._kind(i)
        if not self.changed[i]:
            return [f"const {kind} *const a{i} = h{i};"]
        second = f"({kind} *)(scratch + {self.places[i]})"
        return [
            f"const {kind} *const a{i} = k & 1 ? {second} : h{i};",
            f"{kind} *const b{i} = k & 1 ? h{i} : {second};",
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
