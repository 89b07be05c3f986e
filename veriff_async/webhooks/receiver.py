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
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, nullcontext
from contextvars import copy_context
from io import BytesIO
from typing import TYPE_CHECKING, Final, Self, cast

from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text, type_name
from veriff_async._protocol.json.decode import warm_up
from veriff_async._protocol.request_arguments import as_bytes, check_credentials
from veriff_async._protocol.webhook import parse_webhook
from veriff_async.errors import (
    ConfigurationError,
    InboxError,
    InvalidArgumentError,
    SignatureError,
    WebhookPayloadError,
)
from veriff_async.inbox.memory import MemoryInbox
from veriff_async.models.events import DecisionEvent, SessionEvent
from veriff_async.webhooks import _http
from veriff_async.webhooks._allowed_networks import parse_networks
from veriff_async.webhooks._callbacks import CallbackCounters, CallbackQueue, check_function
from veriff_async.webhooks._tasks import LoopTasks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from veriff_async.credentials import Credentials
    from veriff_async.inbox._protocol import Inbox
    from veriff_async.models.events import WebhookEvent
    from veriff_async.models.state import RecordResult
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._callbacks import OnEvent
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("ReceiverStatistics", "WebhookReceiver")

_LOG: Final = logging.getLogger(__name__)


@frozen(kw_only=True)
class ReceiverStatistics:
    """Counters of a receiver, over all event loops.

    Attributes:
        recorded: Webhooks that were recorded, duplicates included.
        duplicates: Of these, those that had been recorded before.
        refused: Requests that were not webhooks of Veriff for this integration, or too large, too slow or unreadable.
        record_failures: Webhooks that were answered 503, so that Veriff sends them again.
        failed: Calls of `on_event` that raised.
        callbacks_dropped: Calls of `on_event` that were not made: it was too far behind, or the receiver was closed.
        running: Calls of `on_event` that are running.
        waiting: Calls of `on_event` that have not started.
    """

    recorded: int
    duplicates: int
    refused: int
    record_failures: int
    failed: int
    callbacks_dropped: int
    running: int
    waiting: int


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
    ) -> None:
        """Check the options; nothing is opened."""
        _check_positive(body_timeout=body_timeout, record_timeout=record_timeout, close_timeout=close_timeout)
        _check_integers(max_body=max_body, max_running=max_running)
        _check_inbox(inbox)
        check_function(on_event)
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
        self._counters = CallbackCounters()
        self._tasks_by_loop: dict[asyncio.AbstractEventLoop, LoopTasks] = {}
        self._is_closed = False
        self._recorded = self._duplicates = self._refused = self._record_failures = 0
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

    def __repr__(self) -> str:
        """Show how much was recorded, and no secrets."""
        is_closed = self._is_closed and all(tasks.is_closed for tasks in tuple(self._tasks_by_loop.values()))
        return f"<WebhookReceiver{' closed' if is_closed else ''}, {self._recorded} recorded>"

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
        queues = [tasks.callbacks for tasks in tuple(self._tasks_by_loop.values()) if tasks.callbacks is not None]
        return ReceiverStatistics(
            recorded=self._recorded,
            duplicates=self._duplicates,
            refused=self._refused,
            record_failures=self._record_failures,
            failed=self._counters.failed,
            callbacks_dropped=self._counters.callbacks_dropped,
            running=sum(queue.running for queue in queues),
            waiting=sum(queue.waiting for queue in queues),
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
        loop = require_asyncio().get_loop()
        tasks = self._tasks_by_loop.get(loop) or self._add_loop(loop)
        try:
            event = parse_webhook(headers, body, self._credentials)
        except (SignatureError, WebhookPayloadError):
            self._refused += 1
            raise
        inbox = self._inbox
        try:
            if tasks.is_closed:
                msg = "The receiver is closed: answer 503, and close the receiver only after the server."
                raise InboxError(msg)  # noqa: TRY301  counted like every failure to record
            # By identity of the method: a subclass or a test may have replaced `record`, which must then be called.
            if isinstance(inbox, MemoryInbox) and getattr(inbox.record, "__func__", None) is MemoryInbox.record:
                # This inbox never waits, so its record needs no task.
                return self._count(tasks, _record_now(inbox, event, bytes(body)))
            return await tasks.record(self._record(tasks, event), self._record_timeout)
        except InboxError:
            self._record_failures += 1
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
        require_asyncio()
        # Everything that can be refused by the head is refused before a byte of the body is read.
        response = _http.refuse_head(check_text("method", method, error=InvalidArgumentError), headers, self._max_body)
        # Last, so that it wins: a stranger learns nothing about the other rules.
        if self._networks is not None and not self._networks.allow(remote, headers):
            response = _http.NOT_ALLOWED
        if response is not None:
            return self._refuse(response)
        try:
            await self.receive(headers, await self._read(body))
        except _BodyRefusedError as error:
            return self._refuse(error.response)
        except (SignatureError, WebhookPayloadError) as error:
            _LOG.warning("refused a webhook with %d, %s: %s", error.status_hint, type(error).__name__, error)
            return _http.FOREIGN if isinstance(error, SignatureError) else _http.UNREADABLE
        except InboxError as error:
            _LOG.error("answered a webhook with 503, so that Veriff sends it again: %s", error)
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
                counters=self._counters,
                context=self._context,
            )
        tasks = self._tasks_by_loop[loop] = LoopTasks(running, callbacks, is_closed=self._is_closed)
        return tasks

    def _refuse(self, response: WebhookResponse) -> WebhookResponse:
        self._refused += 1
        _LOG.warning("refused a webhook with %d: %s", response.status, response.body.decode())
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
            _ = result.is_duplicate  # a user's inbox may return anything
        except Exception as error:  # noqa: BLE001  a user's inbox may raise anything
            return _to_inbox_error(error)
        return self._count(tasks, result)

    def _count(self, tasks: LoopTasks, result: RecordResult) -> RecordResult:
        """Count a record, and queue its callback."""
        is_duplicate = result.is_duplicate
        self._recorded += 1
        self._duplicates += is_duplicate
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
