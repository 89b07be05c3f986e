"""For the tests of your own code: strategies for all that Veriff says, and the rules of every inbox and journal.

The strategies need hypothesis (``pip install "veriff-async[testing]"``); the contracts need nothing.
"""

from typing import TYPE_CHECKING

from veriff_async.late import late

if TYPE_CHECKING:
    from veriff_async.testing.contract import InboxContract
    from veriff_async.testing.journals import JournalContract
    from veriff_async.testing.messages import decided, full_auto, moved, screened
    from veriff_async.testing.strategies import signed_webhooks, strategy_for, webhook_events

__all__ = (
    "InboxContract",
    "JournalContract",
    "decided",
    "full_auto",
    "moved",
    "screened",
    "signed_webhooks",
    "strategy_for",
    "webhook_events",
)

_HOMES = {
    "testing.contract": "InboxContract",
    "testing.journals": "JournalContract",
    "testing.messages": "decided full_auto moved screened",
    "testing.strategies": "signed_webhooks strategy_for webhook_events",
}
"""Where names live; they are loaded when they are first used, since hypothesis is an extra."""

if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours
    __getattr__ = late(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
