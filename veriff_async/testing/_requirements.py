"""Skips the rules about optional methods that the inbox under test does not have."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING

from veriff_async.inbox._protocol import DeliveryInbox, ErasableInbox, SearchableInbox, SubmissionInbox

if TYPE_CHECKING:
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.testing._harness import ContractCase

__all__ = ("require_deliveries", "require_durable", "require_erasure", "require_search", "require_submissions")


def require_durable(case: ContractCase) -> None:
    """Skip the rule if the inbox keeps nothing after all its handles were closed."""
    if not case.durable:
        reason = "this inbox is not durable"
        raise unittest.SkipTest(reason)


def require_deliveries(inbox: Inbox) -> DeliveryInbox:
    """Return the inbox, or skip the rule if it passes no events to handlers."""
    if not isinstance(inbox, DeliveryInbox):
        reason = "the inbox has not all methods of DeliveryInbox"
        raise unittest.SkipTest(reason)
    return inbox


def require_search(inbox: Inbox) -> SearchableInbox:
    """Return the inbox, or skip the rule if it cannot be searched."""
    if not isinstance(inbox, SearchableInbox):
        reason = "the inbox has not all methods of SearchableInbox"
        raise unittest.SkipTest(reason)
    return inbox


def require_erasure(inbox: Inbox) -> ErasableInbox:
    """Return the inbox, or skip the rule if it cannot erase."""
    if not isinstance(inbox, ErasableInbox):
        reason = "the inbox has no method erase"
        raise unittest.SkipTest(reason)
    return inbox


def require_submissions(inbox: Inbox) -> SubmissionInbox:
    """Return the inbox, or skip the rule if it keeps no submissions."""
    if not isinstance(inbox, SubmissionInbox):
        reason = "the inbox has no save_submission"
        raise unittest.SkipTest(reason)
    return inbox
