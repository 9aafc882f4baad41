"""How arms look: color, marker and dash go together, so that color is never the only difference.

The eight colors keep a distance of at least 15 (CIE 1976) for normal, protanopic and deuteranopic sight and a contrast of at
least 3:1 to the page, in light and in dark; a test measures both. After eight arms the colors come again, with
other markers and dashes.
"""

from __future__ import annotations

LIGHT = ("#1f5a99", "#b8430f", "#1a9d6a", "#c2709f", "#b48f14", "#4a97d8", "#5f6368", "#56203a")
DARK = ("#4ba3ee", "#c96a35", "#5ee8ac", "#b57f9c", "#f5d650", "#b9d3ea", "#f2f2f0", "#9a63f0")
NEUTRAL = {
    # name: (light, dark)
    "ink": ("#1c1d1f", "#e9e9e6"),
    "muted": ("#61646b", "#a3a6ad"),
    "line": ("#d9dadd", "#393c42"),
    "paper": ("#ffffff", "#16181c"),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">", "h")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 1.6),
    (1.2, 1.4),
    (6, 1.6, 1.2, 1.6),
    (9, 2),
    (3, 1.2, 1, 1.2, 1, 1.2),
)


def color(style: int | None) -> str:
    """The name of an arm's color."""
    return "ink" if style is None else f"arm-{style % len(LIGHT)}"


def marker(style: int | None) -> str:
    """The matplotlib marker of an arm."""
    return "o" if style is None else MARKERS[style % len(MARKERS)]


def size(style: int | None) -> float:
    """The size of an arm's marker in CSS pixels: pointed shapes need more to look as large as round ones."""
    return {"o": 6.5, "s": 6, "D": 5.6, "*": 10, "P": 7.5, "X": 7.5}.get(marker(style), 7.8)


def dash(style: int | None) -> tuple[float, ...]:
    """The dash pattern of an arm's lines, in line widths; empty is solid."""
    return () if style is None else DASHES[style % len(DASHES)]


def names() -> dict[str, tuple[str, str]]:
    """Every named color, for light and dark."""
    arms = {f"arm-{i}": pair for i, pair in enumerate(zip(LIGHT, DARK, strict=True))}
    return {**NEUTRAL, **arms}
