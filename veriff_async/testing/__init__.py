"""For the tests of your own code: strategies for all that Veriff says, and the rules that every inbox keeps.

The strategies need hypothesis (``pip install "veriff-async[testing]"``); `InboxContract` needs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from veriff_async.testing.contract import InboxContract
    from veriff_async.testing.messages import decided, full_auto, moved, screened
    from veriff_async.testing.strategies import signed_webhooks, strategy_for, webhook_events

__all__ = (
    "InboxContract",
    "decided",
    "full_auto",
    "moved",
    "screened",
    "signed_webhooks",
    "strategy_for",
    "webhook_events",
)

_HOME_OF = {
    "InboxContract": "contract",
    "decided": "messages",
    "full_auto": "messages",
    "moved": "messages",
    "screened": "messages",
    "signed_webhooks": "strategies",
    "strategy_for": "strategies",
    "webhook_events": "strategies",
}
"""Where names live; they are loaded when they are first used, since hypothesis is an extra."""


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value: object = getattr(import_module(f"veriff_async.testing.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
