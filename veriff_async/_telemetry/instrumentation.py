"""Spans and metrics with the API of OpenTelemetry: what clients, receivers and batches share."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from veriff_async._telemetry.instruments import Instruments, report_failure
from veriff_async.errors import ApiError
from veriff_async.version import __version__

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Generator, Mapping, Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Link, Span
    from opentelemetry.util.types import AttributeValue

    from veriff_async.models.enums import Status as DecisionStatus
    from veriff_async.telemetry import Telemetry

__all__ = (
    "NO_EXEMPLAR",
    "SESSION_ID",
    "Instrumentation",
    "describe_span",
    "end_span",
    "error_type",
    "is_recording",
    "status_label",
)

SESSION_ID: Final = "veriff.session.id"
_NAME: Final = "veriff_async"

# A value that is recorded in the context of a span also stores that span as an example, which not every value needs.
# An empty context would not do: the SDK takes the current one instead.
NO_EXEMPLAR: Final = Context({_NAME: True})

# Seconds between two looks for an SDK.
_LOOK_INTERVAL: Final = 0.1

# Providers that export nothing are classes of the API itself. The SDK's are in `opentelemetry.sdk`.
_API: Final = ("opentelemetry.trace", "opentelemetry.metrics")

_instruments: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
_global_instruments: Instruments | None = None


class Instrumentation:
    """A tracer and instruments. Nothing is done while no SDK is configured.

    Attributes:
        tracer: Starts spans.
        instruments: The metrics.
    """

    def __init__(self, telemetry: Telemetry | None) -> None:
        """Use the given providers, or the global ones; an SDK may be configured later.

        Raises:
            TypeError: The installed API of OpenTelemetry is too old.
        """
        tracers, meters = (None, None) if telemetry is None else (telemetry.tracer_provider, telemetry.meter_provider)
        self.tracer: trace.Tracer = trace.get_tracer(_NAME, __version__, tracers)
        self.instruments: Instruments = _get_instruments(meters)
        self._is_live = tracers is not None or meters is not None
        self._next_look = 0.0

    @property
    def is_live(self) -> bool:
        """Whether an SDK is configured, so that spans or metrics go anywhere; noticed within a tenth of a second."""
        if not self._is_live and (now := monotonic()) >= self._next_look:
            # Not each time: the API reads the environment, which takes as long as the rest of an unobserved call.
            self._next_look = now + _LOOK_INTERVAL
            self._is_live = _is_sdk(trace.get_tracer_provider()) or _is_sdk(metrics.get_meter_provider())
        return self._is_live

    def start_span(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        kind: SpanKind,
        links: Sequence[Link] = (),
        parent: Context | None = None,
    ) -> Span:
        """Start a span; see `span`. The caller ends it with `end_span`."""
        try:
            return self.tracer.start_span(name, parent, kind, attributes, links)
        except Exception as error:  # noqa: BLE001  of a sampler or a processor of the application
            report_failure(error)
            return trace.INVALID_SPAN

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, AttributeValue] | None = None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        parent: Context | None = None,
    ) -> Generator[Span]:
        """Run a block in a span of its own, which is current in it. Its errors are recorded by their type only.

        Args:
            name: The name of the span.
            attributes: Its attributes.
            kind: Its kind.
            links: Its links.
            parent: The context with the parent instead of the current one; an empty one begins a trace.
        """
        span = self.start_span(name, attributes, kind=kind, links=links, parent=parent)
        token = attach(set_span_in_context(span))
        try:
            yield span
        except GeneratorExit:  # the coroutine is closed as garbage, in another context, where `detach` would fail
            end_span(span)
            raise
        except BaseException as error:
            detach(token)
            end_span(span, error)
            raise
        detach(token)
        end_span(span)

    def background_context(self, span: Span | None = None) -> contextvars.Context:
        """Return a copy of the current context for a background task, in which `span` or no span is current."""
        context = copy_context()
        context.run(attach, Context() if span is None else set_span_in_context(span, Context()))
        return context


def _is_sdk(provider: object) -> bool:
    return not type(provider).__module__.startswith(_API)


def end_span(span: Span, error: BaseException | None = None) -> None:
    """End a span, and say why if it failed; a cancellation is not a failure.

    The message of the error is left out: it names paths with ids, and errors of other code may hold personal data.
    """
    try:
        try:
            if error is not None and span.is_recording():
                span.set_attribute("error.type", error_type(error))
                if not isinstance(error, asyncio.CancelledError):
                    span.set_status(Status(StatusCode.ERROR))
        finally:
            span.end()
    except Exception as failure:  # noqa: BLE001  of a processor or a class of spans of the application
        report_failure(failure)


def is_recording(span: Span) -> bool:
    """Return whether a span takes attributes."""
    try:
        return span.is_recording()
    except Exception as failure:  # noqa: BLE001  as above
        report_failure(failure)
        return False


def describe_span(span: Span, attributes: Mapping[str, AttributeValue], links: Sequence[Link] = ()) -> None:
    """Add attributes and links to a span."""
    try:
        span.set_attributes(attributes)
        for link in links:
            span.add_link(link.context, link.attributes)
    except Exception as failure:  # noqa: BLE001  as above
        report_failure(failure)


def error_type(error: BaseException) -> str:
    """Return the status of Veriff's response, or the class of another error."""
    return str(error.status) if isinstance(error, ApiError) else type(error).__name__


def status_label(status: DecisionStatus) -> str:
    """Return the status of a decision as a value of attributes.

    The text of an unknown status may be anything, and each one would become a time series, so they share the value that
    the conventions for HTTP have for unknown methods.
    """
    return str(status) if status.known else "_OTHER"


def _get_instruments(provider: MeterProvider | None) -> Instruments:
    """Return the instruments of a provider, which are created once: each has one callback."""
    global _global_instruments  # noqa: PLW0603  of the global provider, which may be set after this call
    if provider is None:
        if _global_instruments is None:
            _global_instruments = Instruments(metrics.get_meter(_NAME, __version__))
        return _global_instruments
    if provider not in _instruments:
        _instruments[provider] = Instruments(provider.get_meter(_NAME, __version__))
    return _instruments[provider]
