"""Numbers and lists as people read them. A number that is not known is an en dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

UNKNOWN = "–"
MINUS = "−"
NAMES = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def known(value: float | None) -> bool:
    """Whether a number is one: not missing, not NaN, not infinite."""
    return value is not None and math.isfinite(value)


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals.

    >>> fixed(-0.0625, 2)
    '−0.06'
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; very large and very small ones as powers of ten.

    >>> number(0.000123), number(1234.5), number(1.5e-7)
    ('0.000123', '1,234', '1.5×10⁻⁷')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -5 < size < 7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        power = f"10{superscript(int(exponent))}"
        return (power if mantissa == "1" else f"{mantissa}×{power}").replace("-", MINUS)
    text = f"{value:,.{max(digits - 1 - size, 0)}f}"
    return text.replace("-", MINUS)


def trim(value: float | None, digits: int = 3) -> str:
    """A number without the zeros at its end, as for a setting.

    >>> trim(0.01), trim(100.0), trim(0.5)
    ('0.01', '100', '0.5')
    """
    text = number(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text


def superscript(value: int) -> str:
    """A whole number as an exponent."""
    return str(value).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def decimals_for(widths: Iterable[float]) -> int:
    """So many decimals that intervals of these widths show two digits."""
    sizes = sorted(w for w in widths if known(w) and w > 0)
    if not sizes:
        return 3
    return min(max(1 - math.floor(math.log10(sizes[len(sizes) // 2])), 0), 8)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """The two ends of an interval.

    >>> interval(0.966, 0.976, 3)
    '[0.966, 0.976]'
    """
    return f"[{fixed(low, decimals)}, {fixed(high, decimals)}]" if known(low) and known(high) else UNKNOWN


def p_value(p: float | None) -> str:
    """A p-value, never as zero."""
    if p is None or not math.isfinite(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float | None) -> str:
    """A time span in its fitting unit.

    >>> seconds(0.0042), seconds(61.2), seconds(4000)
    ('4.2 ms', '61 s', '67 min')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value < 1e-3:
        return f"{number(value * 1e6, 2)} µs"
    if value < 1:
        return f"{number(value * 1e3, 2)} ms"
    if value < 120:
        return f"{number(value, 2)} s"
    return f"{number(value / 60, 2)} min" if value < 7200 else f"{number(value / 3600, 2)} h"


def count(value: int, one: str, many: str = "") -> str:
    """A number of things.

    >>> count(1, "arm"), count(1500, "run")
    ('1 arm', '1,500 runs')
    """
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def spelled(value: int) -> str:
    """A small whole number in words."""
    return NAMES[value] if 0 <= value < len(NAMES) else f"{value:,}"


def listing(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence; a long list ends in how many more there are.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    >>> listing(["a", "b", "c", "d"], most=3)
    'a, b and 2 more'
    """
    shown = list(names) if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def shorten(text: str, most: int) -> str:
    """A long label with its middle left out: both ends of 'file.py:task / rule' matter.

    >>> shorten("experiments/new.py:task / adam", 20)
    'experimen…ask / adam'
    """
    if len(text) <= most:
        return text
    left = (most - 1) // 2
    return f"{text[:left]}…{text[len(text) - (most - 1 - left) :]}"


def sentence(text: str) -> str:
    """A text to go on after: with its full stop and a space, or nothing where there is none.

    >>> sentence("Target: 0.93")
    'Target: 0.93. '
    """
    text = text.strip()
    return f"{text} " if text.endswith((".", "!", "?")) else f"{text}. " if text else ""


def first_up(sentence: str) -> str:
    """A sentence with a capital at its start, where it starts with a word and not with a label."""
    return sentence[:1].upper() + sentence[1:]
