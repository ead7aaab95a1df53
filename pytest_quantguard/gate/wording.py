"""How values read: percent, points, bytes, decibel; names that fit a line."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from pytest_quantguard.gate.rules import Entry, GatedMetric, exact, value_of

MOST_DIGITS = 6


def clean(text: str) -> str:
    """Text without line breaks and control characters, which file names and labels may hold."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shorten(text: str, width: int) -> str:
    """Text of at most `width` characters, cut in the middle."""
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return text[: width - 3 - tail] + "..." + text[len(text) - tail :]


def scheme_title(scheme: str) -> str:
    """A scheme as a reader says it: `kmeans_lut:8` is `8-bit kmeans_lut`; at 16 bits the mode has no effect."""
    mode, _, bits = scheme.partition(":")
    if mode and bits == "16":
        return "16-bit float"
    return f"{bits}-bit {mode}" if mode and bits.isdecimal() else scheme or "the quantized model"


def update_command(node_id: str = "", flags: Sequence[str] = ()) -> str:
    """The command that accepts what a test measured.

    Args:
        node_id: the test, from the folder where the command is to be run; every test where empty.
        flags: further flags of the run.
    """
    plain = node_id and not set('"$`\\!\n') & set(node_id)
    target = f'"{node_id}"' if plain else shlex.quote(node_id)
    return " ".join(["pytest", *([target] if node_id else []), "--snapshot-update", *map(shlex.quote, flags)])


def percent(value: Fraction | float, digits: int = 1) -> str:
    """A share in percent: `98.2 %`; all or nothing only if it is, so 49,999 of 50,000 is `99.998 %`."""
    while digits < MOST_DIGITS and 0 < value < 1 and float(f"{float(value) * 100:.{digits}f}") in (0, 100):
        digits += 1
    return f"{float(value) * 100:.{digits}f} %"


def size_text(size: float) -> str:
    """A size in decimal units: `612 bytes`, `48.1 KB`, `3.72 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= factor:
            number = size / factor
            return f"{number:.{2 if number < 10 else 1}f} {unit}"
    return f"{size:.0f} bytes"


def number_text(metric: GatedMetric, value: Fraction | float, digits: int = 1) -> str:
    """A value or threshold in the unit of its metric: `98.2 %`, `-1.2 points`, `12,345 bytes`, `31.2 dB`."""
    if metric.kind == "share":
        return percent(value, digits)
    if metric.kind == "delta":
        return f"{float(value) * 100:+.{digits}f} points"
    if metric.kind == "bytes":
        return f"{float(value):,.0f} bytes"
    return f"{float(value):.{digits}f} dB"


def entry_text(metric: GatedMetric, entry: Entry, digits: int = 1, label_width: int = 24) -> str:
    """A measured value with what stands behind it: `98.2 % (442 of 450)`, `-4.5 points (-2 of 44, '8')`.

    The label is cut to `label_width` characters, and left out if that is 0.
    """
    text = number_text(metric, value_of(entry), digits)
    if not isinstance(entry, Mapping):
        return text
    label = f", {quoted(entry['label'], label_width)}" if "label" in entry and label_width else ""
    return f"{text} ({entry['count']} of {entry['total']}{label})"


def quoted(label: str, width: int = 24) -> str:
    """A label in quotes, cut where it is long."""
    return f"'{shorten(clean(label), width)}'"


def change_text(metric: GatedMetric, old: Entry, new: Entry, digits: int = 1) -> str:
    """New minus old: `-1.3 points`, `+2.0 %` of the size, `-0.5 dB`."""
    change = value_of(new) - value_of(old)
    if not change:
        return "="
    if metric.kind == "bytes":
        return f"{float(change / value_of(old)) * 100:+.{digits}f} %" if value_of(old) else "new"
    unit = "dB" if metric.kind == "decibel" else "points"
    factor = 1 if metric.kind == "decibel" else 100
    return f"{float(change) * factor:+.{digits}f} {unit}"


def apart(render: Callable[[int], str], other: Callable[[int], str]) -> int:
    """The fewest digits, one at least, with which two values read differently."""
    return next((digits for digits in range(1, MOST_DIGITS) if render(digits) != other(digits)), MOST_DIGITS)


def versus_text(metric: GatedMetric, entry: Entry, threshold: float) -> tuple[str, str]:
    """A measured value and the threshold it misses, with enough digits to tell them apart."""
    value, limit = value_of(entry), exact(threshold)
    digits = apart(lambda n: number_text(metric, value, n), lambda n: number_text(metric, limit, n))
    return entry_text(metric, entry, digits), number_text(metric, limit, digits)
