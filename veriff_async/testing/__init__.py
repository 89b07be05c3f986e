"""Tools for your tests: events, hypothesis strategies for every model, and contracts for inboxes, journals, endpoints.

The strategies need hypothesis (``pip install "veriff-async[testing]"``); the contracts and events need nothing.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async.testing.factories import (
        decision_event as decision_event,
        full_auto_event as full_auto_event,
        session_event as session_event,
        watchlist_event as watchlist_event,
    )
    from veriff_async.testing.inbox_contract import InboxContract as InboxContract
    from veriff_async.testing.journal_contract import JournalContract as JournalContract
    from veriff_async.testing.receiver_check._case import (
        CaseGroup as CaseGroup,
        CaseOutcome as CaseOutcome,
        CaseSeverity as CaseSeverity,
        ReceiverCase as ReceiverCase,
    )
    from veriff_async.testing.receiver_check._cases import RECEIVER_CASES as RECEIVER_CASES
    from veriff_async.testing.receiver_check._context import Effects as Effects
    from veriff_async.testing.receiver_check._fixes import Fix as Fix
    from veriff_async.testing.receiver_check._report import CaseResult as CaseResult, ReceiverReport as ReceiverReport
    from veriff_async.testing.receiver_check._runner import check_receiver as check_receiver
    from veriff_async.testing.receiver_contract import (
        ReceiverContract as ReceiverContract,
        ReceiverWarning as ReceiverWarning,
    )
    from veriff_async.testing.strategies import (
        signed_webhooks as signed_webhooks,
        strategy_for as strategy_for,
        webhook_events as webhook_events,
    )
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "testing.factories": "decision_event full_auto_event session_event watchlist_event",
            "testing.inbox_contract": "InboxContract",
            "testing.journal_contract": "JournalContract",
            "testing.receiver_check._case": "CaseGroup CaseOutcome CaseSeverity ReceiverCase",
            "testing.receiver_check._cases": "RECEIVER_CASES",
            "testing.receiver_check._context": "Effects",
            "testing.receiver_check._fixes": "Fix",
            "testing.receiver_check._report": "CaseResult ReceiverReport",
            "testing.receiver_check._runner": "check_receiver",
            "testing.receiver_contract": "ReceiverContract ReceiverWarning",
            "testing.strategies": "signed_webhooks strategy_for webhook_events",
        },
    )
