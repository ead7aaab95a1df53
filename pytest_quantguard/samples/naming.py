"""Naming many things in one message."""

from collections.abc import Sequence


def first_ten(names: Sequence[str]) -> str:
    """The first ten names, quoted, and how many more there are."""
    listed = ", ".join(f"'{name}'" for name in names[:10])
    return listed if len(names) <= 10 else f"{listed} and {len(names) - 10} more"
