"""Providers of the SDK whose spans and metrics the tests read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from attrs import define, field
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from veriff_async.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from veriff_async.client import ClientOptions

__all__ = ("RESOURCE", "Exported")

# Detecting the resource starts a thread for each provider.
RESOURCE: Final = Resource({})


@define
class Exported:
    """The spans and metrics that the providers of a test have exported."""

    spans_in: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracers: TracerProvider = field(factory=lambda: TracerProvider(shutdown_on_exit=False, resource=RESOURCE))
    meters: MeterProvider = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Connect the exporters."""
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_in))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False, resource=RESOURCE)

    @property
    def telemetry(self) -> Telemetry:
        """The option of a client."""
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def tracer(self) -> Tracer:
        """The tracer of the application under test."""
        return self.tracers.get_tracer("application")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended, in that order."""
        return self.spans_in.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        """Return the spans with a name."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span with a name."""
        (span,) = self.named(name)
        return span

    def parent_of(self, span: ReadableSpan) -> str | None:
        """Return the name of a span's parent."""
        if span.parent is None:
            return None
        names = {other.context.span_id: other.name for other in self.spans}
        return names[span.parent.span_id]

    def links_of(self, span: ReadableSpan) -> list[str]:
        """Return the names of the spans that a span links to."""
        names = {other.context.span_id: other.name for other in self.spans}
        return [names[link.context.span_id] for link in span.links]

    @property
    def points(self) -> Mapping[str, list[NumberDataPoint | HistogramDataPoint]]:
        """The values of all metrics, by name."""
        data, points = self.reader.get_metrics_data(), dict[str, list[NumberDataPoint | HistogramDataPoint]]()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points[metric.name] = list(metric.data.data_points)  # type: ignore[arg-type]
        return points

    def value(self, name: str, attributes: Mapping[str, object] | None = None) -> float | None:
        """Return a value, or the number of values of a histogram, over the points with some attributes."""
        wanted = (attributes or {}).items()
        found = [
            point.count if isinstance(point, HistogramDataPoint) else point.value
            for point in self.points.get(name, ())
            if wanted <= dict(point.attributes or {}).items()
        ]
        return sum(found) if found else None


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Return providers of the test's own."""
    exported = Exported()
    yield exported
    exported.tracers.shutdown()
    exported.meters.shutdown()


@pytest.fixture
def client_options(exported: Exported) -> ClientOptions:
    """Let the client export to the providers of the test."""
    return {"telemetry": exported.telemetry}
