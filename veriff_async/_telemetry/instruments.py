"""The instruments of one meter, and the sources of those whose values are read when metrics are collected.

Sources are held weakly, and their owners remove them when they are closed: a meter lives as long as the process, and
must keep no client alive. The SDK uses the last value that several callbacks report for the same attributes, so each
instrument has one callback, which adds up its sources.

Values of histograms are handed to the SDK many at a time, and when metrics are collected: a value takes 8 microseconds
among others and 30 between other work, as was measured, since it displaces data from the processor's caches.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from weakref import ref

from opentelemetry.context import get_current
from opentelemetry.metrics import CallbackOptions, Observation

from veriff_async._logging import first_failure, log_fields
from veriff_async._telemetry.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import MethodType

    from opentelemetry.context import Context
    from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter
    from opentelemetry.util.types import AttributeValue

    from veriff_async._telemetry.metrics import Metric

    _Value: TypeAlias = tuple[Histogram, float, Mapping[str, AttributeValue], Context]

__all__ = ("Instruments", "report_failure")

_LOG: Final = logging.getLogger("veriff_async.telemetry")

# Values that wait for the SDK at most; they take a millisecond together.
_MAX_PENDING: Final = 128

# Two sources do not add up to it: the oldest wait of two clients is the older one.
_MAXIMUM: Final = frozenset({"veriff.wait.max_age"})


class Instruments:
    """The instruments of a meter, by the names of the table of metrics."""

    def __init__(self, meter: Meter) -> None:
        """Create all of them.

        Raises:
            TypeError: The installed API of OpenTelemetry is too old.
        """
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter | UpDownCounter] = {}
        self._sources: dict[ref[object], Callable[[object], Mapping[str, float]]] = {}
        self._pending: deque[_Value] = deque()
        for metric in METRICS.values():
            self._create(meter, metric)

    def record(
        self, name: str, value: float, attributes: Mapping[str, AttributeValue], context: Context | None = None
    ) -> None:
        """Record a value of a histogram, soon; the current span, or that of `context`, is an example of it."""
        context = get_current() if context is None else context
        self._pending.append((self._histograms[name], value, attributes, context))
        if len(self._pending) >= _MAX_PENDING:
            self._flush()

    def _flush(self) -> None:
        """Hand the values to the SDK; also in the thread of an exporter, which collects the metrics."""
        pending = self._pending
        with suppress(IndexError):  # another thread has taken the last one
            while pending:
                histogram, value, attributes, context = pending.popleft()
                try:
                    histogram.record(value, attributes, context)
                except Exception as error:  # noqa: BLE001  of the SDK, or of a view of the application
                    report_failure(error)

    def add(self, name: str, amount: int, attributes: Mapping[str, AttributeValue]) -> None:
        """Change a counter."""
        try:
            self._counters[name].add(amount, attributes)
        except Exception as error:  # noqa: BLE001  as above
            report_failure(error)

    def add_source(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Read the values of a bound method from now on; it may be called in any thread. Its object is held weakly."""
        method = cast("MethodType", source)
        # Not `WeakMethod`: at the end of the process it prints an error for an object that a module still holds.
        reference = ref(method.__self__, self._remove)
        # One operation of a dict is atomic. A lock could be held by another thread while this process is forked.
        self._sources[reference] = method.__func__

    def remove_source(self, source: Callable[[], Mapping[str, float]]) -> None:
        """Stop reading values of a bound method."""
        self._remove(ref(cast("MethodType", source).__self__))

    def _remove(self, reference: ref[object]) -> None:
        self._sources.pop(reference, None)

    def _create(self, meter: Meter, metric: Metric) -> None:
        name, unit, description = metric.name, metric.unit, metric.description
        if metric.is_observed:
            callbacks = [self._observe(name)]
            if metric.kind == "gauge":
                meter.create_observable_gauge(name, callbacks, unit, description)
            else:
                meter.create_observable_up_down_counter(name, callbacks, unit, description)
        elif metric.kind == "histogram":
            boundaries = metric.boundaries
            self._histograms[name] = meter.create_histogram(
                name, unit, description, explicit_bucket_boundaries_advisory=boundaries
            )
        elif metric.kind == "counter":
            self._counters[name] = meter.create_counter(name, unit, description)
        else:
            self._counters[name] = meter.create_up_down_counter(name, unit, description)

    def _observe(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            # The SDK calls back before it reads the histograms.
            self._flush()
            owners = [
                (owner, read) for reference, read in tuple(self._sources.items()) if (owner := reference()) is not None
            ]
            values = [value for owner, read in owners if (value := read(owner).get(name)) is not None]
            if not values:
                return ()
            return (Observation(max(values) if name in _MAXIMUM else sum(values)),)

        return observe


def report_failure(error: Exception) -> None:
    """Log once that OpenTelemetry has failed, which must not fail what is observed."""
    if (failure := first_failure(_LOG, error)) is None:
        return
    name, place = failure
    fields = log_fields(error=name, cause=place)
    _LOG.warning("OpenTelemetry has failed with %s at %s; the call is not affected.", name, place, extra=fields)
