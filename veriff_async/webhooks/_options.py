"""The options of a receiver as a type, for code that passes them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection

    from veriff_async.config import DeliveryPolicy
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._handlers import AnyHandler

__all__ = ("ReceiverOptions",)


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
