"""The webhook receiver: it verifies and records a request, and returns the response, for every framework.

One request goes through these steps, each in one place:

    handle   HTTP rules of the head (`_http`), sender's address (`_allowed_networks`), the body within its limits
    receive  `parse_webhook`: API key and signature, and only then JSON
             the inbox: the event is recorded before the response is sent
             in the same step it is queued for the handlers, which run afterwards (`_delivery_worker`)

A record runs in a task of its own (`_tasks`), so a server that cancels the request cannot separate the record from what
follows it. A `MemoryInbox` never waits, so with it there is nothing to cancel and no task is needed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self, cast

from veriff_async._event_loop import require_asyncio
from veriff_async._logging import show_log
from veriff_async._protocol.arguments import check_number, check_optional
from veriff_async._protocol.json.decode import warm_up
from veriff_async._protocol.request_arguments import as_bytes, check_credentials
from veriff_async._protocol.webhook import parse_webhook
from veriff_async._telemetry.setup import check_telemetry, open_instrumentation
from veriff_async.config import DeliveryPolicy
from veriff_async.errors import (
    ConfigurationError,
    InboxError,
    InvalidArgumentError,
    SignatureError,
    WebhookPayloadError,
)
from veriff_async.inbox.memory import MemoryInbox
from veriff_async.models.events import DecisionEvent, SessionEvent
from veriff_async.statistics import ReceiverStatistics
from veriff_async.webhooks import _http
from veriff_async.webhooks._allowed_networks import parse_networks
from veriff_async.webhooks._body import BodyRefusedError, read_body
from veriff_async.webhooks._delivery_attempt import DeliveryCounters
from veriff_async.webhooks._delivery_worker import DeliveryWorker
from veriff_async.webhooks._handlers import HandlerRegistry, check_delivery_inbox, make_handler
from veriff_async.webhooks._options import check_inbox, check_integers, check_positive
from veriff_async.webhooks._recorder import EventRecorder, ReceiverCounters, to_inbox_error
from veriff_async.webhooks._registration import HandlerRegistration
from veriff_async.webhooks._request_log import RequestLog
from veriff_async.webhooks._tasks import LoopTasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Collection, Coroutine, Mapping, Sequence
    from types import TracebackType

    from veriff_async._telemetry.webhooks import Receipt, ReceiverTelemetry
    from veriff_async.credentials import Credentials
    from veriff_async.inbox._protocol import DeliveryInbox, Inbox
    from veriff_async.models.state import RecordResult
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._handlers import AnyHandler
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("WebhookReceiver",)


class WebhookReceiver(HandlerRegistration):
    """Receives webhooks: verifies, reads and records them, and returns the response.

    A webhook is answered 200 only when its event is in the inbox; then every wait for its session wakes, in every
    process that shares the inbox. Handlers, which `on` registers, are called afterwards, in the background, so they
    never delay the response. The inbox queues an event for them in the step in which it records it. Each handler is
    called at least once for each event, until it has finished: again after an error, and again after a crash, in any
    process that shares the inbox. Events of one session are handled in the order of their recording. A repetition of a
    webhook is not handled again.

    Use it as ``async with WebhookReceiver(...) as receiver:``, or call `aclose` at the end, before the inbox is closed.
    ``async with`` and `open` open it again, in any event loop: a framework may start and stop its application many
    times. Several loops may use it at the same time; `aclose` ends what runs in its own loop.

    Args:
        credentials: The integration whose webhooks are received; can be set while the receiver runs.
        inbox: Where they are recorded.
        on_event: A handler of all events; see `on`. By default there is none.
        max_body: Bytes that a body may have; a larger one is not kept in memory.
        body_timeout: Seconds in which a body must arrive.
        record_timeout: Seconds in which the inbox must record; less than the five or so that Veriff waits.
        close_timeout: Seconds that `aclose` waits for running records and handlers.
        max_running: Number of events that are handled at the same time, one of each session.
        delivery: How events are passed to handlers and retried. By default `DeliveryPolicy()`.
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
        on_event: AnyHandler | None = None,
        max_body: int = 1_048_576,
        # Each below the five seconds in which Veriff wants an answer to a webhook.
        body_timeout: float = 4.0,
        record_timeout: float = 4.0,
        close_timeout: float = 10.0,
        max_running: int = 16,
        delivery: DeliveryPolicy | None = None,
        allowed_networks: Collection[Network] | None = None,
        trusted_proxies: Collection[Network] = (),
        telemetry: Telemetry | Literal[False] | None = None,
    ) -> None:
        """Check the options; nothing is opened."""
        check_telemetry(telemetry)
        check_positive(body_timeout=body_timeout, record_timeout=record_timeout, close_timeout=close_timeout)
        check_integers(max_body=max_body, max_running=max_running)
        check_inbox(inbox)
        show_log()
        self._credentials = check_credentials(credentials)
        self._networks = parse_networks(allowed_networks, trusted_proxies)
        self._inbox = inbox
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._record_timeout = record_timeout
        self._close_timeout = close_timeout
        self._max_running = max_running
        self._delivery = check_optional("delivery", delivery, DeliveryPolicy, remedy="pass one") or DeliveryPolicy()
        # Handlers run in the context of the program, not in that of the request that caused them.
        self._context = copy_context()
        self._handlers = HandlerRegistry()
        self._counters = ReceiverCounters()
        self._delivery_counters = DeliveryCounters()
        self._tasks_by_loop: dict[asyncio.AbstractEventLoop, LoopTasks] = {}
        self._is_closed = False
        instrumentation = open_instrumentation(telemetry)
        self._telemetry: ReceiverTelemetry | None = None
        if instrumentation is not None:
            # Imported here: it imports OpenTelemetry.
            from veriff_async._telemetry.webhooks import ReceiverTelemetry

            self._telemetry = ReceiverTelemetry(instrumentation)
            instrumentation.instruments.add_source(self._observe)
        self.request_log: RequestLog = RequestLog()
        self._recorder = EventRecorder(self._handlers, self._counters, self._telemetry)
        if on_event is not None:
            self._add_handler(on_event, ())
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

    @property
    def has_handlers(self) -> bool:
        """Whether a handler of events is registered."""
        return bool(self._handlers)

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
        counters, deliveries, loops = self._counters, self._delivery_counters, tuple(self._tasks_by_loop.values())
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
            events_queued=counters.queued,
            events_handled=deliveries.handled,
            attempts_failed=deliveries.failed,
            dead_letters=deliveries.dead,
            active_events=sum(tasks.worker.running for tasks in loops),
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
            tasks = self._add_loop(loop)
        if self._handlers:
            tasks.worker.start()

    def _add_handler(
        self, function: object, event_types: Sequence[type], name: str | None = None, *, is_transactional: bool = False
    ) -> None:
        handler = make_handler(function, event_types, name=name, is_transactional=is_transactional)
        check_delivery_inbox(self._inbox, is_transactional=is_transactional)
        self._handlers.add(handler)
        with suppress(RuntimeError):  # usually handlers are registered before a loop runs
            tasks = self._tasks_by_loop.get(asyncio.get_running_loop())
            if tasks is not None:
                tasks.worker.start()

    async def handle_pending(self, *, limit: int | None = None) -> int:
        """Call the handlers of events that are due now, and wait for them.

        A cron job, a function of AWS Lambda or a test calls this instead of handling events in the background. Events
        that wait for a retry later, or that another process handles now, are not waited for.

        Args:
            limit: Number of attempts at most; by default all that are due.

        Returns:
            The number of attempts, those that failed included.

        Raises:
            InboxError: The inbox failed, or the receiver is closed.
            InvalidArgumentError: `limit` is not a whole number above zero.
            ConfigurationError: No event loop of asyncio is running, or no handler is registered.

        Example:
            >>> count = await receiver.handle_pending()
        """
        loop = require_asyncio().get_loop()
        if not self._handlers:
            msg = "handle_pending() needs the handlers: register them first, with `on`."
            raise ConfigurationError(msg)
        if limit is not None:
            remedy = "give a whole number above zero"
            check_number("limit", limit, lowest=1, whole=True, remedy=remedy, error=InvalidArgumentError)
        tasks = self._tasks_by_loop.get(loop) or self._add_loop(loop)
        if tasks.is_closed:
            msg = "The receiver is closed: open it with `async with` before you handle events."
            raise InboxError(msg)
        try:
            return await tasks.worker.handle_pending(limit)
        except Exception as error:  # noqa: BLE001  raised below, so that it is not chained
            inbox_error = to_inbox_error(error)
        raise inbox_error

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
                return self._recorder.record_now(inbox, event, bytes(body), tasks.worker)
            return await tasks.record(self._recorder.record(inbox, event, tasks.worker), self._record_timeout)
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
            await self._receive(loop, headers, await read_body(body, self._max_body, self._body_timeout))
        except BodyRefusedError as error:
            return self._refuse(error.response)
        except (SignatureError, WebhookPayloadError) as error:
            self.request_log.write_forgery(error)
            return _http.FOREIGN if isinstance(error, SignatureError) else _http.UNREADABLE
        except InboxError as error:
            self.request_log.write_failure(error)
            return _http.NOT_RECORDED
        return _http.RECORDED

    async def aclose(self) -> None:
        """Refuse further webhooks, wait for running records and handlers, and then cancel the rest.

        Later webhooks are answered 503, so that Veriff sends them again, about an hour later. Events whose handlers are
        cancelled are given back to the inbox, so another process handles them at once. A function that runs in a thread
        cannot be cancelled: it ends by itself. With a `MemoryInbox`, all events that are due are handled first. Call
        `aclose` in the event loop that used the receiver; records and handlers in another loop continue there.
        """
        require_asyncio()
        self._is_closed = True
        tasks = self._tasks_by_loop.get(asyncio.get_running_loop())
        if tasks is not None:
            await tasks.aclose(self._close_timeout)
        else:  # the program closes it from outside of the loops that used it
            for other in tuple(self._tasks_by_loop.values()):
                other.stop()

    def _add_loop(self, loop: asyncio.AbstractEventLoop) -> LoopTasks:
        """Return the tasks of an event loop, and drop those of loops that have ended."""
        for other, ended in tuple(self._tasks_by_loop.items()):
            if other.is_closed():
                self._tasks_by_loop.pop(other, None)
                ended.worker.close()
        running = set[asyncio.Task[object]]()
        worker = DeliveryWorker(
            cast("DeliveryInbox", self._inbox),  # checked when a handler is registered
            self._handlers,
            policy=self._delivery,
            max_running=self._max_running,
            tasks=running,
            counters=self._delivery_counters,
            context=self._context,
            is_shared=not isinstance(self._inbox, MemoryInbox),
            telemetry=self._telemetry,
        )
        tasks = self._tasks_by_loop[loop] = LoopTasks(running, worker, is_closed=self._is_closed)
        return tasks

    def _observe(self) -> Mapping[str, float]:
        """Return the present load, by the names of metrics; called in the thread of an exporter."""
        load = self.statistics()
        return {
            "veriff.inbox.records.active": load.active_records,
            "veriff.deliveries.running": load.active_events,
        }

    def _count_refusal(self, reason: str) -> None:
        self._counters.refused[reason] += 1
        if self._telemetry is not None:
            self._telemetry.on_refusal(reason)

    def _refuse(self, response: WebhookResponse) -> WebhookResponse:
        self._count_refusal(_http.REASONS[response.status])
        self.request_log.write_refusal(response)
        return response
