"""Counts of things in texts for people."""

from __future__ import annotations

__all__ = ("format_count",)


def format_count(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural unless the number is one.

    Args:
        count: The number.
        noun: The noun for one thing, for example ``dead event``.
        plural: The plural of the noun, if it is not the noun with an s.

    Example:
        >>> format_count(1, "event"), format_count(0, "event"), format_count(2, "address", "addresses")
        ('1 event', '0 events', '2 addresses')
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"
