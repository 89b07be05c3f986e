"""The metrics that this library exports: the only place that declares them.

The documentation prints this table, and the test of the dashboard reads it. Names and attributes follow the semantic
conventions of OpenTelemetry where they have one (https://opentelemetry.io/docs/specs/semconv/http/http-metrics/,
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/); the others begin with ``veriff.``.

Each attribute has few values: a status, a kind, a class of errors, a template of a path. Ids, URLs and personal data
are never attributes of metrics, since each value would become a time series of its own, kept for months.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import frozen

__all__ = ("METRICS", "Kind", "Metric")

Kind: TypeAlias = Literal["histogram", "counter", "up-down counter", "gauge"]

# The boundaries that the conventions for HTTP recommend, in seconds.
_HTTP: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
# A decision takes seconds to days, and Veriff repeats a webhook for a week.
_LONG: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0, 604_800.0)
# A handler may only write a row, or wait for other services.
_HANDLER: Final = (*_SHORT, 60.0, 300.0)
# Up to a second without trouble, and as long as an outage takes with it.
_DELAY: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 21_600.0, 86_400.0)
_BYTES: Final = tuple(float(4**power) for power in range(4, 14))  # 256 bytes to 64 MiB

_REQUEST: Final = (
    "http.request.method",
    "http.response.status_code",
    "error.type",
    "server.address",
    "server.port",
    "url.template",
)
_STATUS: Final = "veriff.decision.status"
_SOURCE: Final = "veriff.decision.source"
_OPERATION: Final = "veriff.operation"
_EVENT: Final = "veriff.event.kind"
_JOB: Final = "veriff.batch.job.state"
_ERROR: Final = "error.type"


@frozen
class Metric:
    """One metric.

    Attributes:
        name: Its name.
        kind: The kind of its instrument.
        unit: Its unit, in UCUM: ``s``, ``By``, or an annotation such as ``{retry}``.
        description: The sentence that exporters show.
        attributes: The attributes that a value may have; those that do not apply are left out.
        boundaries: The recommended boundaries of a histogram's buckets.
        is_observed: Whether the value is read when metrics are collected.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    is_observed: bool = False


def _histogram(name: str, unit: str, description: str, boundaries: tuple[float, ...], *attributes: str) -> Metric:
    return Metric(name, "histogram", unit, description, attributes, boundaries)


def _counter(name: str, unit: str, description: str, *attributes: str) -> Metric:
    return Metric(name, "counter", unit, description, attributes)


def _observable(name: str, kind: Kind, unit: str, description: str) -> Metric:
    return Metric(name, kind, unit, description, is_observed=True)


METRICS: Final = {
    metric.name: metric
    for metric in (
        # Calls to Veriff.
        _histogram("http.client.request.duration", "s", "Duration of one attempt of a call.", _HTTP, *_REQUEST),
        _histogram(
            "http.client.request.body.size", "By", "Size of the body of a request that has one.", _BYTES, *_REQUEST
        ),
        _histogram(
            "http.client.response.body.size",
            "By",
            "Size of the body of a response to a GET request.",
            _BYTES,
            *_REQUEST,
        ),
        _histogram(
            "veriff.call.duration",
            "s",
            "Duration of a call with all its attempts and pauses.",
            _HTTP,
            _OPERATION,
            _ERROR,
        ),
        _counter(
            "veriff.call.retries",
            "{retry}",
            "Attempts that repeated an earlier one, by the failure of that one.",
            _OPERATION,
            _ERROR,
        ),
        _histogram(
            "veriff.rate_limit.pause.duration",
            "s",
            "Pauses of all calls of a client after a 429 or 503.",
            _SHORT,
            _OPERATION,
            "http.response.status_code",
        ),
        _observable("veriff.uploads.active", "up-down counter", "{upload}", "Uploads that are being signed or sent."),
        _observable("veriff.downloads.active", "up-down counter", "{download}", "Downloads that are running."),
        # Decisions and waits.
        _histogram(
            "veriff.decision.duration",
            "s",
            "Time from the submission of a session until this application learned of the decision.",
            _LONG,
            _STATUS,
            _SOURCE,
        ),
        _histogram("veriff.wait.duration", "s", "Duration of a wait for a decision.", _LONG, _STATUS, _SOURCE, _ERROR),
        _histogram(
            "veriff.wait.wake_up.duration",
            "s",
            "Time from the record of a decision in the inbox until the coroutine that waits for it runs.",
            _SHORT,
            _SOURCE,
        ),
        _observable("veriff.waiters", "up-down counter", "{waiter}", "Coroutines that wait for a decision."),
        _observable(
            "veriff.wait.max_age",
            "gauge",
            "s",
            "Age of the oldest session that coroutines wait for.",
        ),
        _counter(
            "veriff.polls",
            "{poll}",
            "Polls for a decision on behalf of waits, by their result: decision, pending or error.",
            "veriff.poll.result",
            _ERROR,
        ),
        _counter(
            "veriff.webhooks.missed",
            "{webhook}",
            "Decisions that a poll found although the inbox works, so that their webhooks are late or lost.",
            _STATUS,
        ),
        # Webhooks.
        _histogram(
            "messaging.process.duration",
            "s",
            "Duration of verifying and recording one webhook, by the result of its record.",
            _SHORT,
            "messaging.system",
            "messaging.operation.name",
            _EVENT,
            "veriff.webhook.result",
            _ERROR,
        ),
        _histogram(
            "veriff.webhook.age",
            "s",
            "Time from the decision, by Veriff's clock, until its webhook was recorded for the first time.",
            _LONG,
            _EVENT,
        ),
        _counter(
            "veriff.webhook.refused",
            "{request}",
            "Requests that were refused: not from Veriff, not a webhook, or unreadable.",
            "veriff.webhook.refusal",
        ),
        # Handlers.
        _histogram(
            "veriff.handler.duration",
            "s",
            "Duration of a call of a handler.",
            _HANDLER,
            _EVENT,
            "veriff.handler.name",
            _ERROR,
        ),
        _histogram(
            "veriff.delivery.delay",
            "s",
            "Time from the record of an event until its first attempt begins.",
            _DELAY,
            _EVENT,
        ),
        _observable("veriff.deliveries.running", "up-down counter", "{event}", "Events whose handlers run."),
        _counter("veriff.deliveries.dead", "{event}", "Events whose last attempt failed: dead letters.", _EVENT),
        # The inbox.
        _observable(
            "veriff.inbox.records.active", "up-down counter", "{webhook}", "Webhooks that the inbox is recording."
        ),
        _observable(
            "veriff.inbox.backlog",
            "up-down counter",
            "{session}",
            "Sessions with waits that changed in the inbox and were not looked up yet.",
        ),
        _observable(
            "veriff.inbox.failing",
            "up-down counter",
            "{client}",
            "Clients whose inbox fails, so that they poll as if there were none.",
        ),
        # Batches.
        Metric(
            "veriff.batch.jobs",
            "up-down counter",
            "{job}",
            "Jobs in progress, by state: running until their submission, then waiting.",
            (_JOB,),
        ),
        _histogram(
            "veriff.batch.job.duration",
            "s",
            "Duration of a job in one run, by the state in which it ended: decided, failed, unknown, stopped or "
            "submitted.",
            _LONG,
            _JOB,
            _ERROR,
        ),
        _observable("veriff.batch.rate", "gauge", "{request}/s", "Requests per second that running batches allow."),
        _observable(
            "veriff.batch.paused", "up-down counter", "{batch}", "Running batches that an outage of Veriff pauses."
        ),
    )
}
"""The metrics by name."""
