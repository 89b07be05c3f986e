"""Where traces and metrics go; see the page about OpenTelemetry for the spans and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ("Telemetry",)


@frozen(kw_only=True)
class Telemetry:
    """The providers of OpenTelemetry that a client or a receiver uses instead of the global ones.

    Args:
        tracer_provider: Where spans go; by default, to the global provider.
        meter_provider: Where metrics go; by default, to the global provider.

    Example:
        >>> telemetry = Telemetry(tracer_provider=provider)
        >>> veriff = VeriffClient.from_env(telemetry=telemetry)
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
