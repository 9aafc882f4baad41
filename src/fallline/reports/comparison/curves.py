"""Figure: learning curves of the final runs, with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...figure import Figure, Mark, Panel, Scale
from .. import words
from .ends import bulk, padded
from .measured import Band
from .view import Arm, View

TOGETHER = 6  # more arms than this get a panel each
_SMALL = (272, 176)
Bands = Mapping[str, Mapping[str, Band]]  # by arm, by quantity


def curves(view: View, found: Bands) -> list[Figure]:
    """Validation loss and validation score against steps: two panels, or for many arms a panel for each."""
    quantities = [
        q for q in ("validation_loss", "validation_score") if any(q in bands for bands in found.values())
    ]
    if not quantities:
        return []
    if len(found) <= TOGETHER:
        panels = tuple(_together(view, found, quantity) for quantity in quantities)
        legend = tuple((arm.label, arm.style) for arm in view.arms if arm.label in found)
        return [Figure("curves", _conclusion(view, found, quantities[0]), panels, _caption(found), legend)]
    return [_apart(view, found, quantity) for quantity in quantities]


def _together(view: View, found: Bands, quantity: str) -> Panel:
    marks: list[Mark] = []
    shown = [(arm, found[arm.label][quantity]) for arm in view.arms if quantity in found.get(arm.label, {})]
    marks += [_band(band, arm) for arm, band in shown]
    for arm, band in shown:
        marks += _line(band, arm.style)
    x, y = _scales(view, [band for _, band in shown], quantity)
    return Panel(x, y, tuple(marks), title="", alt=_alt(y.label, shown))


def _apart(view: View, found: Bands, quantity: str) -> Figure:
    shown = [(arm, found[arm.label][quantity]) for arm in view.arms if quantity in found.get(arm.label, {})]
    x, y = _scales(view, [band for _, band in shown], quantity)
    context = [Mark("line", band.steps, band.middle, role="context") for _, band in shown]
    panels = [
        Panel(x, y, (*context, _band(band, arm), *_line(band, arm.style)[:1]), title=arm.label, style=arm.style,
              alt=_alt(y.label, [(arm, band)]), size=_SMALL)
        for arm, band in shown
    ]  # fmt: skip
    caption = f"{_caption(found)} Gray: the medians of the other arms."
    return Figure("curves", _conclusion(view, found, quantity), tuple(panels), caption, columns=3)


def _band(band: Band, arm: Arm) -> Mark:
    return Mark("band", band.steps, band.middle, band.low, band.high, style=arm.style)


def _line(band: Band, style: int) -> list[Mark]:
    """The median, with the arm's sign at a few places that differ from arm to arm."""
    shares = (0.18 + 0.05 * (style % TOGETHER), 0.55 + 0.05 * (style % TOGETHER), 1.0)
    places = np.unique(np.searchsorted(band.steps, band.steps[-1] * np.array(shares)))
    signs = Mark("points", band.steps[places], band.middle[places], style=style)
    return [Mark("line", band.steps, band.middle, style=style), signs]


def _scales(view: View, bands: Sequence[Band], quantity: str) -> tuple[Scale, Scale]:
    end = max(float(band.steps[-1]) for band in bands)
    x = Scale("steps", low=0.0, high=end * 1.02 or 1.0)
    if quantity == "validation_score":
        low, high = bulk(np.concatenate([part for band in bands for part in (band.low, band.high)]))
        return x, Scale(f"validation {view.metric}", low=low, high=high)
    lowest = min(float(band.low.min()) for band in bands)
    # one arm that blows up must not press all others flat: the axis ends a little above where training starts
    start = max(float(band.middle[0]) for band in bands)
    highest = min(max(float(band.high.max()) for band in bands), 3 * start if start > 0 else np.inf)
    if lowest > 0:
        return x, Scale(
            "validation loss, log scale", log=True, low=lowest / 1.15, high=max(highest, lowest * 1.1) * 1.1
        )
    low, high = padded(np.array([lowest, highest]))
    return x, Scale("validation loss", low=low, high=high)


def _alt(label: str, shown: Sequence[tuple[Arm, Band]]) -> str:
    ends = [
        f"{arm.label} from {words.number(b.middle[0])} to {words.number(b.middle[-1])}" for arm, b in shown
    ]
    return f"Median {label}, first to last measurement: {'; '.join(ends)}."


def _caption(found: Bands) -> str:
    runs = sorted({band.runs for bands in found.values() for band in bands.values()})
    n = str(runs[0]) if len(runs) == 1 else f"{runs[0]} to {runs[-1]}"
    return (
        f"Lines: median of the final runs of each arm (n = {n}); bands: 10th to 90th percentile of the runs. "
        "A run that diverges leaves its band at that step."
    )


def _conclusion(view: View, found: Bands, quantity: str) -> str:
    """Where the curves end: what was seen, as the validation set is no test."""
    shown = {
        arm.label: found[arm.label][quantity] for arm in view.arms if quantity in found.get(arm.label, {})
    }
    end = max(band.steps[-1] for band in shown.values())
    ends = {label: band.middle for label, band in shown.items() if band.steps[-1] == end}
    order = sorted(ends, key=lambda label: float(ends[label][-1]))
    name = f"validation {view.metric}" if quantity == "validation_score" else "validation loss"
    low, high = (f"{words.number(ends[label][-1])} ({label})" for label in (order[0], order[-1]))
    sentence = f"The median {name} ends {f'between {low} and {high}' if len(order) > 1 else f'at {low}'}"
    risen = [
        label
        for label in order
        if quantity == "validation_loss" and ends[label][-1] > 1.1 * ends[label].min() > 0
    ]
    lost = [label for label in shown if label not in ends]
    sentence += f"; it rises again for {words.listing(risen)}" if risen else ""
    return sentence + (f"; every run of {words.listing(lost)} diverges" if lost else "")
