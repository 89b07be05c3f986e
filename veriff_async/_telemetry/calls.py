"""The span and the metrics of one call to Veriff, by the conventions for HTTP clients.

One span covers a call with all its attempts: a retry is an event in it. The conventions prefer a span for each attempt,
which the instrumentation of aiohttp adds below this one if an application uses it. ``url.full``, which they require, is
left out, because it holds ids: ``url.template`` and ``server.address`` take its place.
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/)

Each attribute and each value takes the SDK several microseconds, so only those of use are exported: the size of a
response, for example, only where it is more than a receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import field, frozen
from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind, set_span_in_context

from veriff_async._http.observers import CallObserver
from veriff_async._telemetry.instrumentation import (
    NO_EXEMPLAR,
    SESSION_ID,
    describe_span,
    end_span,
    error_type,
    is_recording,
)

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from veriff_async._http.observers import AttemptReport, CallReport
    from veriff_async._protocol.request import Request
    from veriff_async._telemetry.instrumentation import Instrumentation

__all__ = ("CallTracer",)

_BAD_REQUEST: Final = 400
_PORTS: Final = {"http": 80, "https": 443}
_STATUS: Final = "http.response.status_code"
_ERROR: Final = "error.type"
_RESENT: Final = "http.request.resend_count"
_REQUEST_SIZE: Final = "http.request.body.size"
_REQUEST_ID: Final = "veriff.request.id"


@frozen
class _SpanTemplate:
    """The name and the attributes that all calls of an operation share."""

    name: str
    attributes: dict[str, AttributeValue]
    operation: dict[str, AttributeValue]
    reads: bool
    _by_status: dict[int | None, dict[str, AttributeValue]] = field(
        init=False, factory=dict[int | None, "dict[str, AttributeValue]"]
    )

    def metric_attributes(self, status: int | None, failure: str | None) -> dict[str, AttributeValue]:
        """Return the attributes of the metrics of an attempt, the same object for each that did not fail."""
        if failure is not None:
            return {**self.attributes, **_status_attribute(status), _ERROR: failure}
        if (known := self._by_status.get(status)) is None:
            known = self._by_status[status] = {**self.attributes, **_status_attribute(status)}
        return known


class CallTracer:
    """The `Observer` of all calls of a client."""

    def __init__(self, instrumentation: Instrumentation) -> None:
        """Observe nothing yet."""
        self._instrumentation = instrumentation
        self._templates: dict[tuple[str, str], _SpanTemplate] = {}

    def start_call(self, request: Request, root: str) -> CallObserver | None:
        """Start the span of a call; see `Observer.start_call`."""
        if not self._instrumentation.is_live:
            return None
        key = request.operation, root
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = _create_template(request, root)
        return _CallSpan(self._instrumentation, template, request.session_id)


class _CallSpan(CallObserver):
    def __init__(self, instrumentation: Instrumentation, template: _SpanTemplate, session_id: str | None) -> None:
        self._instruments = instrumentation.instruments
        self._template = template
        attributes = template.attributes if session_id is None else {**template.attributes, SESSION_ID: session_id}
        self._has_session = session_id is not None
        self._span = instrumentation.start_span(template.name, attributes, kind=SpanKind.CLIENT)
        # Until the end of the call, the span is current: for log records, and for spans of aiohttp or of a source.
        self._context: Context = set_span_in_context(self._span)
        self._token: Token[Context] | None = attach(self._context)
        self._failure: str | None = None
        self._status: int | None = None

    def on_stream_start(self) -> None:
        self._leave()

    def on_attempt_end(self, report: AttemptReport) -> None:
        status = self._status = report.status
        self._failure = failure = _failure(report)
        attributes = self._template.metric_attributes(status, failure)
        record = self._instruments.record
        record("http.client.request.duration", report.duration, attributes, NO_EXEMPLAR)
        if report.bytes_sent:
            record("http.client.request.body.size", report.bytes_sent, attributes, NO_EXEMPLAR)
        if self._template.reads and status is not None:
            record("http.client.response.body.size", report.bytes_received, attributes, NO_EXEMPLAR)
        if failure is not None and is_recording(self._span):
            event = {"veriff.attempt": report.number, _ERROR: failure, **_status_attribute(status)}
            self._span.add_event("veriff.attempt.failed", event)

    def on_slow_down(self, seconds: float) -> None:
        attributes = {**self._template.operation, **_status_attribute(self._status)}
        self._instruments.record("veriff.rate_limit.pause.duration", seconds, attributes)
        self._span.add_event("veriff.rate_limit.pause", {"veriff.delay": seconds})

    def on_retry(self, delay: float, reason: str) -> None:
        failure = self._failure or reason
        self._instruments.add("veriff.call.retries", 1, {**self._template.operation, _ERROR: failure})
        self._span.add_event("veriff.retry", {"veriff.delay": delay, _ERROR: failure})

    def on_end(self, report: CallReport) -> None:
        error, attributes = report.error, self._template.operation
        if error is not None:
            attributes = {**attributes, _ERROR: error_type(error)}
        self._instruments.record("veriff.call.duration", report.elapsed, attributes, self._context)
        if is_recording(self._span):
            own = _status_attribute(report.status)
            if report.attempts > 1:
                own[_RESENT] = report.attempts - 1
            if report.bytes_sent:
                own[_REQUEST_SIZE] = report.bytes_sent
            if report.request_id is not None:
                own[_REQUEST_ID] = report.request_id
            if report.session_id is not None and not self._has_session:
                own[SESSION_ID] = report.session_id
            describe_span(self._span, own)
        if not isinstance(error, GeneratorExit):  # closed as garbage, in another context
            self._leave()
        end_span(self._span, error)

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            detach(token)


def _status_attribute(status: int | None) -> dict[str, AttributeValue]:
    return {} if status is None else {_STATUS: status}


def _failure(report: AttemptReport) -> str | None:
    if report.status is not None and report.status >= _BAD_REQUEST:
        return str(report.status)
    return report.cause if report.error is None else error_type(report.error)


def _create_template(request: Request, root: str) -> _SpanTemplate:
    parts = urlsplit(root)
    attributes: dict[str, AttributeValue] = {
        "http.request.method": request.method,
        "url.template": request.path_template,
        "server.address": parts.hostname or "",
        "server.port": parts.port or _PORTS.get(parts.scheme, 0),
    }
    name = f"{request.method} {request.path_template}"
    return _SpanTemplate(name, attributes, {"veriff.operation": request.operation}, request.method == "GET")
