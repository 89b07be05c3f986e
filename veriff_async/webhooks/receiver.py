"""The webhook receiver: it verifies and records a request, and returns the response, for every framework.

One request goes through these steps, each in one place:

    handle   HTTP rules of the head (`_http`), sender's address (`_allowed_networks`), the body within its limits
    receive  `parse_webhook`: API key and signature, and only then JSON
             the inbox: the event is recorded before the response is sent
             `on_event`: queued once for each event that is recorded for the first time (`_callbacks`)

A record runs in a task of its own (`_tasks`), so a server that cancels the request cannot separate the record from the
callback that follows it. A `MemoryInbox` never waits, so with it there is nothing to cancel and no task is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, nullcontext
from contextvars import copy_context
from datetime import UTC, datetime
from io import BytesIO
from time import time
from typing import TYPE_CHECKING, Final, Literal, Self, cast

from attrs import define, field

from veriff_async._event_loop import require_asyncio
from veriff_async._logging import log_fields, show_log
from veriff_async._protocol.arguments import check_number, type_name
from veriff_async._protocol.json.decode import warm_up
from veriff_async._protocol.request_arguments import as_bytes, check_credentials
from veriff_async._protocol.validation import is_id
from veriff_async._protocol.webhook import parse_webhook
from veriff_async._telemetry.setup import check_telemetry, open_instrumentation
from veriff_async.errors import (
    ConfigurationError,
    InboxError,
    InvalidArgumentError,
    SignatureError,
    WebhookPayloadError,
)
from veriff_async.inbox.memory import MemoryInbox
from veriff_async.models.events import DecisionEvent, SessionEvent, event_time
from veriff_async.statistics import ReceiverStatistics
from veriff_async.webhooks import _http
from veriff_async.webhooks._allowed_networks import parse_networks
from veriff_async.webhooks._callbacks import CallbackCounters, CallbackQueue, check_function
from veriff_async.webhooks._tasks import LoopTasks

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Mapping
    from types import TracebackType

    from veriff_async._telemetry.webhooks import Receipt, ReceiverTelemetry
    from veriff_async.credentials import Credentials
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._callbacks import OnEvent
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("WebhookReceiver",)

_LOG: Final = logging.getLogger(__name__)


@define
class _Counters:
    """Totals over all event loops.

    Attributes:
        refused: Requests by the reason of their refusal.
        last_recorded: When the last webhook was recorded, in seconds since 1970.
        last_times: The time that the last new webhook states, and when it was recorded.
    """

    recorded: int = 0
    duplicates: int = 0
    ignored: int = 0
    refused: Counter[str] = field(factory=Counter[str])
    record_failures: int = 0
    bytes_received: int = 0
    last_recorded: float | None = None
    last_times: tuple[datetime, float] | None = None


class _BodyRefusedError(Exception):
    """A body that is not read to its end."""

    def __init__(self, response: WebhookResponse) -> None:
        super().__init__(response.status)
        self.response = response


class WebhookReceiver:
    """Receives webhooks: verifies, reads and records them, and returns the response.

    A webhook is answered 200 only when its event is in the inbox; then every wait for its session wakes, in every
    process that shares the inbox. `on_event` is called afterwards, in the background, so it never delays the response.
    Its failure does not lose the event and is logged by type, file and line only, since its text may hold personal
    data. It is called once for each event that is recorded for the first time, not for repetitions, `max_running` calls
    at a time. It is not called if the process ends before, so use it for work that may be missed, and read the inbox
    for work that must not.

    Use it as ``async with WebhookReceiver(...) as receiver:``, or call `aclose` at the end, before the inbox is closed.
    ``async with`` and `open` open it again, in any event loop: a framework may start and stop its application many
    times. Several loops may use it at the same time; `aclose` ends what runs in its own loop.

    Args:
        credentials: The integration whose webhooks are received; can be set while the receiver runs.
        inbox: Where they are recorded.
        on_event: Called with each `RecordResult`: a coroutine function on the loop, any other callable in a thread.
        max_body: Bytes that a body may have; a larger one is not kept in memory.
        body_timeout: Seconds in which a body must arrive.
        record_timeout: Seconds in which the inbox must record; less than the five or so that Veriff waits.
        close_timeout: Seconds that `aclose` waits for running records and calls.
        max_running: Calls of `on_event` at the same time; with 1 they keep the order of recording.
        allowed_networks: Networks that webhooks may come from, for example ``["192.0.2.0/27"]``; ``None`` allows every
            address. Checked by `handle` against `remote`, in addition to the signature, which is the proof. Veriff
            publishes its addresses on https://devdocs.veriff.com/docs/allowlisted-urls-and-ip-addresses; they may
            change, so read them there. Behind a proxy, see `trusted_proxies`.
        trusted_proxies: Networks of your own proxies. Only for a connection from one of them is the sender read from
            ``X-Forwarded-For``, from its end. Leave it empty if your server already does that (uvicorn's
            ``--forwarded-allow-ips``).
        telemetry: Where traces and metrics go; by default, to the global providers. See `VeriffClient`.

    Raises:
        ConfigurationError: An option cannot work.

    Example:
        >>> async with SqliteInbox("inbox.db") as inbox, WebhookReceiver(Credentials.from_env(), inbox) as receiver:
        ...     response = await receiver.handle(request.method, request.headers, await request.body())

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """

    def __init__(  # noqa: PLR0913  all but two options have a default
        self,
        credentials: Credentials,
        inbox: Inbox,
        *,
        on_event: OnEvent | None = None,
        max_body: int = 1_048_576,
        # Each below the five seconds in which Veriff wants an answer to a webhook.
        body_timeout: float = 4.0,
        record_timeout: float = 4.0,
        close_timeout: float = 10.0,
        max_running: int = 16,
        allowed_networks: Collection[Network] | None = None,
        trusted_proxies: Collection[Network] = (),
        telemetry: Telemetry | Literal[False] | None = None,
    ) -> None:
        """Check the options; nothing is opened."""
        check_telemetry(telemetry)
        _check_positive(body_timeout=body_timeout, record_timeout=record_timeout, close_timeout=close_timeout)
        _check_integers(max_body=max_body, max_running=max_running)
        _check_inbox(inbox)
        check_function(on_event)
        show_log()
        self._credentials = check_credentials(credentials)
        self._networks = parse_networks(allowed_networks, trusted_proxies)
        self._inbox = inbox
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._record_timeout = record_timeout
        self._close_timeout = close_timeout
        self._on_event = on_event
        self._max_running = max_running
        # Calls of `on_event` run in the context of the program, not in that of the request that caused them.
        self._context = copy_context()
        self._counters = _Counters()
        self._callback_counters = CallbackCounters()
        self._tasks_by_loop: dict[asyncio.AbstractEventLoop, LoopTasks] = {}
        self._is_closed = False
        instrumentation = open_instrumentation(telemetry)
        self._telemetry: ReceiverTelemetry | None = None
        if instrumentation is not None:
            # Imported here: it imports OpenTelemetry.
            from veriff_async._telemetry.webhooks import ReceiverTelemetry

            self._telemetry = ReceiverTelemetry(instrumentation)
            instrumentation.instruments.add_source(self._observe)
        # The decoders of the usual events are compiled now and not during the first webhook.
        warm_up(DecisionEvent, SessionEvent)

    @property
    def credentials(self) -> Credentials:
        """The credentials of the integration; set them to add and delete secrets, for later requests.

        Raises:
            ConfigurationError: They are set to something other than `Credentials`.
        """
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._credentials = check_credentials(credentials)

    @property
    def inbox(self) -> Inbox:
        """The inbox in which webhooks are recorded."""
        return self._inbox

    def __repr__(self) -> str:
        """Show how much was recorded, and no secrets."""
        is_closed = self._is_closed and all(tasks.is_closed for tasks in tuple(self._tasks_by_loop.values()))
        return f"<WebhookReceiver{' closed' if is_closed else ''}, {self._counters.recorded} recorded>"

    async def __aenter__(self) -> Self:
        """Open the receiver, also after it was closed."""
        require_asyncio()
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the receiver."""
        await self.aclose()

    def statistics(self) -> ReceiverStatistics:
        """Return the counters of this receiver, over all event loops."""
        counters, callbacks, loops = self._counters, self._callback_counters, tuple(self._tasks_by_loop.values())
        queues = [tasks.callbacks for tasks in loops if tasks.callbacks is not None]
        refused = dict(counters.refused)
        last, times = counters.last_recorded, counters.last_times
        return ReceiverStatistics(
            recorded=counters.recorded,
            duplicates=counters.duplicates,
            ignored=counters.ignored,
            refused=sum(refused.values()),
            refused_by_reason=refused,
            record_failures=counters.record_failures,
            bytes_received=counters.bytes_received,
            active_records=sum(tasks.recording for tasks in loops),
            callbacks_failed=callbacks.failed,
            callbacks_dropped=callbacks.callbacks_dropped,
            active_callbacks=sum(queue.running for queue in queues),
            waiting_callbacks=sum(queue.waiting for queue in queues),
            last_recorded_at=None if last is None else datetime.fromtimestamp(last, UTC),
            last_webhook_age=None if times is None else max(0.0, times[1] - times[0].timestamp()),
        )

    def open(self) -> None:
        """Receive webhooks on the running event loop, also after `aclose`.

        A new receiver is open, so this is only needed by an application that may be stopped and started again.
        ``async with``, `asgi_app` and `aiohttp_app` call it.

        Raises:
            ConfigurationError: No event loop of asyncio is running.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            msg = "WebhookReceiver.open() needs a running asyncio event loop: call it from a coroutine under asyncio."
            raise ConfigurationError(msg)
        self._is_closed = False
        tasks = self._tasks_by_loop.get(loop)
        if tasks is None or tasks.is_closed:
            self._tasks_by_loop.pop(loop, None)
            self._add_loop(loop)

    async def receive(self, headers: Mapping[str, str], body: bytes) -> RecordResult:
        """Verify, read and record one webhook, for other protocols than HTTP; `handle` does this for HTTP.

        The address of the sender is not checked here; `handle` does that. Once the event is verified it is recorded
        even if this call is cancelled. With a `MemoryInbox` this call never suspends.

        Args:
            headers: The request's headers, names in any case.
            body: The raw body, exactly as it came.

        Returns:
            The event, the state of its session, and whether the event was ignored.

        Raises:
            SignatureError: It is not from Veriff, or for another integration; nothing was recorded.
            WebhookPayloadError: It is signed, but cannot be read; nothing was recorded.
            InboxError: It may not have been recorded: the inbox failed or was slower than `record_timeout`, or the
                receiver is closed. Answer 503.
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.

        Example:
            >>> result = await receiver.receive(headers, body)
        """
        return await self._receive(require_asyncio().get_loop(), headers, body)

    def _receive(
        self, loop: asyncio.AbstractEventLoop, headers: Mapping[str, str], body: bytes
    ) -> Coroutine[object, object, RecordResult]:
        telemetry = self._telemetry
        # Not `if_live`: a function more would be noticeable in each webhook.
        if telemetry is None or not telemetry.is_live:
            return self._read_and_record(loop, headers, body)
        return self._receive_in_span(telemetry, loop, headers, body)

    async def _receive_in_span(
        self, telemetry: ReceiverTelemetry, loop: asyncio.AbstractEventLoop, headers: Mapping[str, str], body: bytes
    ) -> RecordResult:
        with telemetry.receive(len(as_bytes(body))) as receipt:
            receipt.result = await self._read_and_record(loop, headers, body, receipt)
            return receipt.result

    async def _read_and_record(
        self,
        loop: asyncio.AbstractEventLoop,
        headers: Mapping[str, str],
        body: bytes,
        receipt: Receipt | None = None,
    ) -> RecordResult:
        tasks = self._tasks_by_loop.get(loop) or self._add_loop(loop)
        try:
            event = parse_webhook(headers, body, self._credentials)
        except (SignatureError, WebhookPayloadError) as error:
            self._count_refusal(error.reason if isinstance(error, SignatureError) else "unreadable")
            raise
        if receipt is not None:
            receipt.event = event
        self._counters.bytes_received += len(body)
        inbox = self._inbox
        try:
            if tasks.is_closed:
                msg = "The receiver is closed: answer 503, and close the receiver only after the server."
                raise InboxError(msg)  # noqa: TRY301  counted like every failure to record
            # By identity of the method: a subclass or a test may have replaced `record`, which must then be called.
            if isinstance(inbox, MemoryInbox) and getattr(inbox.record, "__func__", None) is MemoryInbox.record:
                # This inbox never waits, so its record needs no task.
                return self._count(tasks, event, _record_now(inbox, event, bytes(body)))
            return await tasks.record(self._record(tasks, event), self._record_timeout)
        except InboxError:
            self._counters.record_failures += 1
            raise

    async def handle(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
        *,
        remote: str | None = None,
    ) -> WebhookResponse:
        """Receive one request, and return the response to it; every rule of HTTP is applied here.

        Args:
            method: The request's method.
            headers: Its headers, names in any case.
            body: The raw body, whole or in chunks as they arrive; chunks are read only as far as needed.
            remote: The address of the connection, needed with `allowed_networks`; without it a request is refused
                there. `aiohttp_app` and `asgi_app` pass it.

        Returns:
            200 for a recorded event (unknown kinds and repetitions too); 403 for an address that is not allowed; 405,
            415, 413, 408, 401 or 400 for a request that is not a webhook; 503 for one that the inbox did not record.

        Raises:
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.

        Example:
            >>> response = await receiver.handle(request.method, request.headers, request.stream())
            >>> return Response(response.body, status_code=response.status, headers=dict(response.headers))
        """
        loop = require_asyncio().get_loop()
        # Everything that can be refused by the head is refused before a byte of the body is read.
        response = _http.refuse_head(method, headers, self._max_body)
        # Last, so that it wins: a stranger learns nothing about the other rules.
        if self._networks is not None and not self._networks.allow(remote, headers):
            response = _http.NOT_ALLOWED
        if response is not None:
            return self._refuse(response)
        try:
            await self._receive(loop, headers, await self._read(body))
        except _BodyRefusedError as error:
            return self._refuse(error.response)
        except (SignatureError, WebhookPayloadError) as error:
            _LOG.warning(
                "Refused a webhook with %d, %s: %s",
                error.status_hint,
                type(error).__name__,
                error,
                extra=log_fields(status=error.status_hint, error=type(error).__name__, cause=str(error)),
            )
            return _http.FOREIGN if isinstance(error, SignatureError) else _http.UNREADABLE
        except InboxError as error:
            _LOG.error(
                "Answered a webhook with 503, so that Veriff sends it again: %s",
                error,
                extra=log_fields(status=_http.NOT_RECORDED.status, error=type(error).__name__, cause=str(error)),
            )
            return _http.NOT_RECORDED
        return _http.RECORDED

    async def aclose(self) -> None:
        """Refuse further webhooks, wait for running records and calls of `on_event`, and then cancel the rest.

        Later webhooks are answered 503, so that Veriff sends them again, about an hour later. A function that runs in a
        thread cannot be cancelled: it ends by itself. Call `aclose` in the event loop that used the receiver; records
        and calls in another loop continue there.
        """
        require_asyncio()
        self._is_closed = True
        tasks = self._tasks_by_loop.get(asyncio.get_running_loop())
        if tasks is not None:
            await tasks.aclose(self._close_timeout)
        else:  # the program closes it from outside of the loops that used it
            for other in tuple(self._tasks_by_loop.values()):
                other.is_closed = True

    def _add_loop(self, loop: asyncio.AbstractEventLoop) -> LoopTasks:
        """Return the tasks of an event loop, and drop those of loops that have ended."""
        for other, tasks in tuple(self._tasks_by_loop.items()):
            if other.is_closed():
                self._tasks_by_loop.pop(other, None)
                tasks.drop_callbacks()
        running = set[asyncio.Task[object]]()
        callbacks = None
        if self._on_event is not None:
            callbacks = CallbackQueue(
                self._on_event,
                max_running=self._max_running,
                tasks=running,
                counters=self._callback_counters,
                context=self._context,
                telemetry=self._telemetry,
            )
        tasks = self._tasks_by_loop[loop] = LoopTasks(running, callbacks, is_closed=self._is_closed)
        return tasks

    def _observe(self) -> Mapping[str, float]:
        """Return the present load, by the names of metrics; called in the thread of an exporter."""
        load = self.statistics()
        return {
            "veriff.inbox.records.active": load.active_records,
            "veriff.webhook.callbacks.running": load.active_callbacks,
            "veriff.webhook.callbacks.waiting": load.waiting_callbacks,
        }

    def _count_refusal(self, reason: str) -> None:
        self._counters.refused[reason] += 1
        if self._telemetry is not None:
            self._telemetry.on_refusal(reason)

    def _refuse(self, response: WebhookResponse) -> WebhookResponse:
        self._count_refusal(_http.REASONS[response.status])
        cause = response.body.decode()
        fields = log_fields(status=response.status, cause=cause)
        _LOG.warning("Refused a webhook with %d: %s", response.status, cause, extra=fields)
        return response

    async def _read(self, body: bytes | AsyncIterable[bytes]) -> bytes:
        """Return a body, holding no more than the limit; a generator is closed if it is not read to its end."""
        if not isinstance(body, AsyncIterable):
            body = as_bytes(body)
            if len(body) > self._max_body:
                raise _BodyRefusedError(_http.TOO_LARGE)
            return body
        # The announced length was checked before, but chunked bodies announce none.
        buffer = BytesIO()
        limit = asyncio.timeout(self._body_timeout)
        is_generator = isinstance(body, AsyncGenerator)
        source = aclosing(cast("AsyncGenerator[bytes]", body)) if is_generator else nullcontext()
        try:
            async with limit, source:
                async for chunk in body:
                    data = as_bytes(chunk, "a chunk of the body")
                    if buffer.tell() + len(data) > self._max_body:
                        raise _BodyRefusedError(_http.TOO_LARGE)  # noqa: TRY301  the generator is closed on the way
                    buffer.write(data)
        except (_BodyRefusedError, InvalidArgumentError):
            raise
        except Exception:  # noqa: BLE001  each server has its own error for a connection that is gone
            raise _BodyRefusedError(_http.TOO_SLOW if limit.expired() else _http.INCOMPLETE) from None
        return buffer.getvalue()

    async def _record(self, tasks: LoopTasks, event: WebhookEvent) -> RecordResult | InboxError:
        """Record an event and queue its callback; an error is returned, since the request may have ended."""
        try:
            result = await self._inbox.record(event)
            _ = result.is_duplicate, result.ignored  # a user's inbox may return anything
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            return _to_inbox_error(error)
        return self._count(tasks, event, result)

    def _count(self, tasks: LoopTasks, event: WebhookEvent, result: RecordResult) -> RecordResult:
        """Count a record, and queue its callback."""
        is_duplicate, counters = result.is_duplicate, self._counters
        counters.recorded += 1
        counters.last_recorded = now = time()
        if is_duplicate:
            counters.duplicates += 1
        else:
            if result.ignored is not None:
                counters.ignored += 1
            sent = event_time(event)
            if sent is not None:
                counters.last_times = sent, now
            if (telemetry := self._telemetry) is not None and telemetry.is_live:
                telemetry.on_record(event, result, None if sent is None else now - sent.timestamp())
        if _LOG.isEnabledFor(logging.DEBUG):
            kind, session_id = type(event).__name__, event.session_id
            # The id of an unknown event may be anything.
            safe_id = session_id if session_id is not None and is_id(session_id) else None
            fields = log_fields(event=kind, session_id=safe_id, is_duplicate=is_duplicate)
            _LOG.debug("Recorded a webhook: %s%s", kind, ", again" if is_duplicate else "", extra=fields)
        if tasks.callbacks is not None and not is_duplicate:
            tasks.callbacks.add(result)
        return result


def _record_now(inbox: MemoryInbox, event: WebhookEvent, body: bytes) -> RecordResult:
    try:
        return inbox.record_now(event, body=body)
    except Exception as error:  # noqa: BLE001  raised below, so that it is not chained
        inbox_error = _to_inbox_error(error)
    raise inbox_error


def _to_inbox_error(error: Exception) -> InboxError:
    if isinstance(error, InboxError):
        return error
    return InboxError(f"The inbox failed with {type(error).__name__}: have it raise an InboxError that says why.")


def _check_positive(**options: object) -> None:
    for name, value in options.items():
        check_number(name, value, above=True, remedy="give a number above zero")


def _check_integers(**options: object) -> None:
    """Refuse fractions and infinity: a length is compared by its digits, and calls are counted."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name} is {value!r}: give a whole number above zero."
            raise ConfigurationError(msg)


def _check_inbox(inbox: object) -> None:
    if not callable(getattr(inbox, "record", None)) or isinstance(inbox, type):
        msg = f"inbox must be an Inbox, not {type_name(inbox)}: pass for example SqliteInbox(path)."
        raise ConfigurationError(msg)
