"""The source of a decision, apart from the decision itself: a client needs it before its first decision."""

from __future__ import annotations

from enum import StrEnum

__all__ = ("DecisionSource",)


class DecisionSource(StrEnum):
    """The way in which `wait_for_decision` received its decision."""

    WEBHOOK = "webhook"
    """A webhook arrived during the wait, at this process or another."""
    POLL = "poll"
    """Polling ``GET /decision`` returned it."""
    KNOWN = "known"
    """The inbox had it before the wait began."""
