"""Log messages about requests that a receiver does not answer with 200."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from attrs import define

from veriff_async._logging import log_fields
from veriff_async.webhooks import _http

if TYPE_CHECKING:
    from veriff_async.errors import InboxError, SignatureError, WebhookPayloadError
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("RequestLog",)

_LOG: Final = logging.getLogger("veriff_async.webhooks.receiver")


@define
class RequestLog:
    """The messages of one receiver.

    Attributes:
        integration: The name of the receiver's integration in the configuration of the program, if it has one. It is
            never taken from a request: the headers of a refused request prove nothing.
    """

    integration: str | None = None

    def write_refusal(self, response: WebhookResponse) -> None:
        """Log that a request was refused before its signature was checked."""
        cause = response.body.decode()
        fields = log_fields(integration=self.integration, status=response.status, cause=cause)
        _LOG.warning("Refused a webhook with %d: %s", response.status, cause, extra=fields)

    def write_forgery(self, error: SignatureError | WebhookPayloadError) -> None:
        """Log that a request was refused for its signature, or for a signed body that cannot be read."""
        name, cause = type(error).__name__, str(error)
        fields = log_fields(integration=self.integration, status=error.status_hint, error=name, cause=cause)
        _LOG.warning("Refused a webhook with %d, %s: %s", error.status_hint, name, cause, extra=fields)

    def write_failure(self, error: InboxError) -> None:
        """Log that a webhook was not recorded."""
        fields = log_fields(
            integration=self.integration, status=_http.NOT_RECORDED.status, error=type(error).__name__, cause=str(error)
        )
        _LOG.error("Answered a webhook with 503, so that Veriff sends it again: %s", error, extra=fields)
