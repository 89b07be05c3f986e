"""The options of a receiver: their types, for code that passes them on, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from veriff_async._protocol.arguments import check_number, type_name
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async.config import DeliveryPolicy
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._handlers import AnyHandler

__all__ = ("ReceiverOptions", "check_inbox", "check_integers", "check_positive")


class ReceiverOptions(TypedDict, total=False):
    """The options of `WebhookReceiver`. Each has a default that suits production."""

    on_event: AnyHandler | None
    max_body: int
    body_timeout: float
    record_timeout: float
    close_timeout: float
    max_running: int
    delivery: DeliveryPolicy | None
    allowed_networks: Collection[Network] | None
    trusted_proxies: Collection[Network]
    telemetry: Telemetry | Literal[False] | None


def check_positive(**options: object) -> None:
    """Check numbers above zero.

    Raises:
        ConfigurationError: One is another value.
    """
    for name, value in options.items():
        check_number(name, value, above=True, remedy="give a number above zero")


def check_integers(**options: object) -> None:
    """Refuse fractions and infinity: a length is compared by its digits, and calls are counted.

    Raises:
        ConfigurationError: One is not a whole number above zero.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name} is {value!r}: give a whole number above zero."
            raise ConfigurationError(msg)


def check_inbox(inbox: object) -> None:
    """Check that events can be recorded in an inbox.

    Raises:
        ConfigurationError: It is something else.
    """
    if not callable(getattr(inbox, "record", None)) or isinstance(inbox, type):
        msg = f"inbox must be an Inbox, not {type_name(inbox)}: pass for example SqliteInbox(path)."
        raise ConfigurationError(msg)
