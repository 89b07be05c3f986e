"""Policies and limits: frozen values, validated at construction, whose defaults suit production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

from attrs import field, frozen

from veriff_async._protocol.arguments import check_flag, check_instance, check_number, number
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from veriff_async._protocol.picture_thresholds import InspectionThresholds
    from veriff_async.middleware import Middleware
    from veriff_async.models.inspection import FaceDetector

__all__ = ("SAFETY_NET", "CallOptions", "DeliveryPolicy", "PollPolicy", "Retention", "RetryPolicy", "Timeouts")

_positive: Final = number(above=True, remedy="give a number above zero")
_not_negative: Final = number(remedy="give zero or a number above it")
_DAY: Final = 86_400.0
_count: Final = number(lowest=1, whole=True, remedy="give a whole number above zero")


@frozen(kw_only=True)
class RetryPolicy:
    """How often and how long a failed call is retried.

    The pause before the n-th retry is a random time between zero and
    ``min(max_backoff, initial_backoff * 2 ** (n - 1))`` (full jitter). After a 429 or 503 response the whole client
    pauses. With ``Retry-After``, the pause is at least the requested time and at least half that bound. If Veriff
    requests more than `max_retry_after`, the call fails immediately and the error has the requested time. After a pause
    the requests of the client resume at a growing rate.

    Args:
        max_attempts: Number of attempts, including the first; 1 turns retries off.
        max_elapsed: Seconds after the start of the call in which an attempt may begin. A pause of the whole client
            counts, also when the response to another call caused it; it uses up no attempts.
        initial_backoff: Upper bound of the first pause, in seconds.
        max_backoff: Upper bound of every pause, in seconds.
        max_retry_after: Longest ``Retry-After`` that is obeyed, in seconds.

    Raises:
        ConfigurationError: A value is negative, or not such a number.
    """

    max_attempts: int = field(default=4, validator=_count)
    max_elapsed: float = field(default=90.0, validator=_not_negative)
    initial_backoff: float = field(default=0.5, validator=_not_negative)
    max_backoff: float = field(default=8.0, validator=_not_negative)
    max_retry_after: float = field(default=60.0, validator=_not_negative)


@frozen(kw_only=True)
class PollPolicy:
    """How often the client polls ``GET /decision`` for sessions that coroutines wait for.

    A session is first polled after `initial_delay` seconds and again after `interval` seconds. Each further interval is
    `backoff_factor` times the previous one, up to `max_interval`. All waits of a client share one poller, which sends
    at most `max_rate` requests per second however many sessions there are.

    Args:
        initial_delay: Seconds before the first poll. With an inbox, polling is only a safety net and can start late.
        interval: Seconds between the first and the second poll.
        backoff_factor: Growth of the interval; 1 keeps it constant.
        max_interval: Upper bound of the interval, in seconds.
        max_rate: Polls per second for the whole client.

    Raises:
        ConfigurationError: A value is zero or negative, or `backoff_factor` is below 1.
    """

    initial_delay: float = field(default=0.0, validator=_not_negative)
    interval: float = field(default=2.0, validator=_positive)
    backoff_factor: float = field(default=1.5, validator=_positive)
    max_interval: float = field(default=30.0, validator=_positive)
    max_rate: float = field(default=10.0, validator=_positive)

    def __attrs_post_init__(self) -> None:
        """Reject a shrinking interval."""
        if self.backoff_factor < 1:
            msg = (
                f"PollPolicy.backoff_factor is {self.backoff_factor!r}: "
                "give 1 or more, so that the intervals do not shrink."
            )
            raise ConfigurationError(msg)


@frozen(kw_only=True)
class DeliveryPolicy:
    """How a `WebhookReceiver` passes events to its handlers, and how often it retries those that fail.

    A process leases an event, calls the handlers, and settles it. While they run, it extends the lease. If the process
    dies, the lease ends, and another process begins the next attempt. After a failed attempt the event waits between
    half of ``min(max_backoff, initial_backoff * 2 ** (n - 1))`` and all of it, `n` being the number of the attempt. The
    default values retry for about an hour. An event whose last attempt fails becomes a dead letter.

    Args:
        max_attempts: Number of attempts, including the first.
        initial_backoff: Upper bound of the pause after the first attempt, in seconds.
        max_backoff: Upper bound of every pause, in seconds.
        lease: Seconds after which another process takes the events of a process that died; up to a day.
        handler_timeout: Seconds that one call of a handler may take, or ``None`` for no limit. A coroutine is then
            cancelled, a thread is left behind, and the attempt has failed.
        poll_interval: Seconds between two looks for events that are due: those that other processes recorded, and
            retries.
        background: Whether this process handles events in the background. With ``False`` it only queues them, and
            `WebhookReceiver.handle_pending` handles them, in this process or in another one.

    Raises:
        ConfigurationError: A value is zero or negative, or not such a value.
    """

    max_attempts: int = field(default=12, validator=_count)
    initial_backoff: float = field(default=2.0, validator=_not_negative)
    max_backoff: float = field(default=1800.0, validator=_not_negative)
    lease: float = 60.0
    handler_timeout: float | None = None
    poll_interval: float = field(default=1.0, validator=_positive)
    background: bool = True

    def __attrs_post_init__(self) -> None:
        """Check the values that have an upper limit or may be ``None``."""
        check_number("DeliveryPolicy.lease", self.lease, above=True, highest=_DAY, remedy="give up to 86400 seconds")
        # A store keeps the time at which an event is due, so this one must not be infinite.
        check_number("DeliveryPolicy.max_backoff", self.max_backoff, highest=30 * _DAY, remedy="give up to 30 days")
        if self.handler_timeout is not None:
            remedy = "give a number above zero, or None"
            check_number("DeliveryPolicy.handler_timeout", self.handler_timeout, above=True, remedy=remedy)
        check_flag("DeliveryPolicy.background", self.background)


# Chosen with `python -m benchmarks.simulate`, see docs/concepts/waiting.md: a maximum of 900 s saves one poll
# in six while webhooks work, and a decision whose webhook was lost is learned three times as late (p99).
SAFETY_NET: Final = PollPolicy(initial_delay=30.0, interval=60.0, backoff_factor=2.0, max_interval=300.0)
"""The default policy of a client with an inbox: polling only finds decisions whose webhook was lost."""


@frozen(kw_only=True)
class Retention:
    """How much an inbox keeps; beyond a limit, the sessions without an event for longest are deleted.

    Events that wait for handlers or are being handled are kept beyond each limit, with their sessions.

    Args:
        max_age: Seconds that a session is kept after its last event. Veriff repeats a webhook for up to seven days; one
            that arrives after its session was deleted counts as new.
        max_sessions: The number of sessions that are kept.
        max_events_per_session: The number of events that are kept of one session, the newest. A repeated event is not
            recognised once the first one was deleted.

    Raises:
        ConfigurationError: A value is zero or negative.
    """

    max_age: float = field(default=30 * 86_400.0, validator=_positive)
    max_sessions: int = field(default=1_000_000, validator=_count)
    max_events_per_session: int = field(default=1_000, validator=_count)


@frozen(kw_only=True)
class Timeouts:
    """How long one attempt of a request may take.

    The limits depend on progress, so that large files need no larger ones.

    Args:
        connect: Seconds to establish the connection, including TLS and waiting for a free connection of the pool.
        idle: Seconds in which the next piece of a body (256 KiB at most) or the response must arrive. They start when
            the connection is established.
        min_bytes_per_second: Average rate that a body must keep up, after the first `idle` seconds.
        total: Seconds for the whole attempt.

    Raises:
        ConfigurationError: A value is zero or negative.
    """

    connect: float = field(default=15.0, validator=_positive)
    idle: float = field(default=30.0, validator=_positive)
    min_bytes_per_second: float = field(default=1024.0, validator=_positive)
    total: float = field(default=600.0, validator=_positive)


class CallOptions(TypedDict, total=False):
    """The options of `VeriffClient.with_options`; one that is omitted or ``None`` keeps its value."""

    timeouts: Timeouts | None
    retry: RetryPolicy | None
    poll: PollPolicy | None
    concurrency: int | None
    middleware: Sequence[Middleware] | None
    thresholds: InspectionThresholds | None
    face_detector: FaceDetector | None


def check_retention(value: object) -> Retention:
    """Return the value if it is a `Retention`.

    Raises:
        ConfigurationError: It is of another type, such as a number of seconds.
    """
    return check_instance("retention", value, Retention, remedy="pass Retention(max_age=...)")


def check_clock(value: Callable[[], float]) -> Callable[[], float]:
    """Return the function if it can be called; it returns the time.

    Raises:
        ConfigurationError: It cannot be called.
    """
    # As `object`: by its annotation, type checkers would consider the check unreachable.
    given: object = value
    if not callable(given):
        msg = f"now must be a function that returns seconds since 1970, not {type(given).__name__}."
        raise ConfigurationError(msg)
    return value
