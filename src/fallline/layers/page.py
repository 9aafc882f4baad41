"""The page of the documentation that lists all layers, from what they declare."""

from __future__ import annotations

from .declared import LAYERS, Declaration

HEAD = """# Layers

Written by `scripts/layers` from the layers themselves, `fl.layers`. What a layer assumes before it has seen data is its
inductive bias. A symmetry holds exactly, for all weights and inputs; the tests draw both at random and allow 1e-6.

- *equivariant*: what is done to the inputs is done to the outputs. *invariant*: the outputs stay as they are.
- `Invariant`, `Equivariant` and `MassConserving` give their symmetry to any model. As penalties there are
  `roughness` (of neighboring weights) and `gradient_penalty` (of outputs where the data is).
- `fl.layers.init` has initial weights: `glorot`, `he`, `orthogonal`, `own` (that of an activation) and
  `zero_residual`, all for any model. The builders take them by name, as in `mlp(64, 32, 10, init="he")`, so that runs
  of a fleet may differ in them.
- `lora` adds low-rank adapters to a trained model.

"""


def page() -> str:
    """The page, in Markdown."""
    rows = ["| layer | inductive bias | symmetry |", "| --- | --- | --- |"]
    rows += [_row(each) for _, each in sorted(LAYERS.items(), key=lambda item: item[0].lower())]
    return HEAD + "\n".join(rows) + "\n"


def _row(each: Declaration) -> str:
    cells = (
        f"**{each.make.__name__}**",
        each.bias.removesuffix("."),
        "; ".join(each.symmetries) or "none that is exact",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
