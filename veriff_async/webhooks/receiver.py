"""The receiver: a request in, a recorded event and an answer out, whatever the framework around it."""

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
from veriff_async._protocol.arguments import check_number, check_text
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
from veriff_async.webhooks._allowed_networks import senders_from
from veriff_async.webhooks._callbacks import CallCounters, Calls, check_function
from veriff_async.webhooks._tasks import LoopWork

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractAsyncContextManager
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
    """What a receiver has done, and does now.

    Attributes:
        recorded: Webhooks that were recorded, repetitions included.
        repeated: Of these, those that had been recorded before.
        refused: Requests that were no webhook of Veriff's for this integration, or too large, too slow, unreadable.
        record_failures: Webhooks that were answered 503, so that Veriff sends them again.
        failed: Calls of `on_event` that raised.
        callbacks_dropped: Calls of `on_event` that were not made: it was too far behind, or the receiver was closed.
        running: Calls of `on_event` that run now.
        waiting: Calls of `on_event` that are yet to begin.
    """

    recorded: int
    repeated: int
    refused: int
    record_failures: int
    failed: int
    callbacks_dropped: int
    running: int
    waiting: int


class _RefusedError(Exception):
    """A body that is not read on."""

    def __init__(self, reply: WebhookResponse) -> None:
        super().__init__(reply.status)
        self.reply = reply


class WebhookReceiver:
    """Takes webhooks: verifies, reads, records, and says what to answer.

    A request counts only once its event is in the inbox; then every wait for its session wakes, in whichever process
    that shares the inbox. `on_event` is called afterwards, in the background: it never delays the answer, its failure
    is logged by type, file and line alone (its text may hold a person's data), and neither loses the event. It is
    called once for each event that is recorded for the first time, not for repetitions, `max_running` at once; not at
    all when the process ends before, so do with it what may be missed, and what must not be missed by what the inbox
    has.

    Use it as ``async with WebhookReceiver(...) as receiver:``, or call `aclose` at the end, before the inbox is closed.
    ``async with`` and `open` open it again, in any event loop: a framework may start and stop its application many
    times. Several loops may use it at once; what runs in each is closed with that loop's `aclose`.

    Args:
        credentials: Whose webhooks are taken; can be set while the receiver runs.
        inbox: Where they are recorded.
        on_event: Called with what was recorded: a coroutine function on the loop, any other callable in a thread.
        max_body: Bytes that a body may have; a larger one is never held.
        body_timeout: Seconds that a body may take to come.
        record_timeout: Seconds that the inbox may take; below the five or so that Veriff waits for an answer.
        close_timeout: Seconds that `aclose` waits for what runs.
        max_running: Calls of `on_event` at once; with 1 they keep the order of recording.
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
        ...     reply = await receiver.handle(request.method, request.headers, await request.body())

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """

    def __init__(  # noqa: PLR0913  options are what a receiver is made of, and all but two have a default
        self,
        credentials: Credentials,
        inbox: Inbox,
        *,
        on_event: OnEvent | None = None,
        max_body: int = 1_048_576,
        body_timeout: float = 4.0,
        record_timeout: float = 4.0,
        close_timeout: float = 10.0,
        max_running: int = 16,
        allowed_networks: Collection[Network] | None = None,
        trusted_proxies: Collection[Network] = (),
    ) -> None:
        """Check the options; nothing is opened."""
        _check_above_zero(body_timeout=body_timeout, record_timeout=record_timeout, close_timeout=close_timeout)
        _check_whole(max_body=max_body, max_running=max_running)
        _check_inbox(inbox)
        check_function(on_event)
        self._credentials = check_credentials(credentials)
        self._senders = senders_from(allowed_networks, trusted_proxies)
        self._inbox = inbox
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._record_timeout = record_timeout
        self._close_timeout = close_timeout
        self._on_event = on_event
        self._max_running = max_running
        self._context = copy_context()
        self._counters = CallCounters()
        self._works: dict[asyncio.AbstractEventLoop, LoopWork] = {}
        self._is_closed = False
        self._recorded = self._repeated = self._refused = self._record_failures = 0
        warm_up(DecisionEvent, SessionEvent)

    @property
    def credentials(self) -> Credentials:
        """Whose webhooks are taken; set it to add and delete secrets, for the requests that come afterwards.

        Raises:
            ConfigurationError: It is set to something that is no `Credentials`.
        """
        return self._credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._credentials = check_credentials(credentials)

    def __repr__(self) -> str:
        """Show how much was recorded, nothing secret."""
        is_closed = self._is_closed and all(work.is_closed for work in tuple(self._works.values()))
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
        """Return what the receiver has done so far, and does now, over all event loops."""
        calls = [work.calls for work in tuple(self._works.values()) if work.calls is not None]
        return ReceiverStatistics(
            recorded=self._recorded,
            repeated=self._repeated,
            refused=self._refused,
            record_failures=self._record_failures,
            failed=self._counters.failed,
            callbacks_dropped=self._counters.callbacks_dropped,
            running=sum(each.running for each in calls),
            waiting=sum(each.waiting for each in calls),
        )

    def open(self) -> None:
        """Take webhooks on the running event loop, also after `aclose`.

        A new receiver takes them at once, so this is for the start of an application that may be stopped and started
        again. ``async with``, `asgi_app` and `aiohttp_app` do it by themselves.

        Raises:
            ConfigurationError: No event loop of asyncio is running.
        """
        self._is_closed = False
        work = self._work()
        if work.is_closed:
            del self._works[asyncio.get_running_loop()]
            self._work()

    async def receive(self, headers: Mapping[str, str], body: bytes) -> RecordResult:
        """Verify, read and record one webhook, for a framework of your own; `handle` does this and speaks HTTP.

        The address of the sender is not checked here; `handle` does that. Once the event is verified it is recorded
        even if this call is cancelled. With a `MemoryInbox` nothing is waited for, so that this call gives the loop to
        nobody.

        Args:
            headers: The request's headers, names in any case.
            body: The raw body, exactly as it came.

        Returns:
            The event, and what became of it.

        Raises:
            SignatureError: It is not Veriff's, or of another integration; nothing was recorded.
            WebhookPayloadError: It is signed, but cannot be read; nothing was recorded.
            InboxError: It may not have been recorded, because the inbox failed, was slower than `record_timeout`, or
                the receiver is closed: answer 503.
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.

        Example:
            >>> recorded = await receiver.receive(headers, body)
        """
        require_asyncio()
        work = self._work()
        try:
            event = parse_webhook(headers, body, self._credentials)
        except (SignatureError, WebhookPayloadError):
            self._refused += 1
            raise
        try:
            work.check_open()
            quick = self._quick()
            if quick is not None:
                return self._kept_now(work, quick, event, bytes(body))
            return await work.record(self._record(work, event), self._record_timeout)
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
        """Take one request, and return what to answer it with; every rule of HTTP is in here.

        Args:
            method: The request's method.
            headers: Its headers, names in any case.
            body: The raw body, whole or in chunks as they come; chunks are read only as far as they are wanted.
            remote: The address of the connection, needed with `allowed_networks`; without it a request is refused
                there. `aiohttp_app` and `asgi_app` pass it.

        Returns:
            200 for what is recorded (unknown kinds and repetitions too); 403 for an address that is not allowed; 405,
            415, 413, 408, 401 or 400 for what is not a webhook; 503 for one that the inbox did not record.

        Raises:
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.

        Example:
            >>> reply = await receiver.handle(request.method, request.headers, request.stream())
            >>> return Response(reply.body, status_code=reply.status, headers=dict(reply.headers))
        """
        require_asyncio()
        reply = _http.refusal(check_text("method", method, error=InvalidArgumentError), headers, self._max_body)
        if self._senders is not None and not self._senders.allow(remote, headers):
            reply = _http.NOT_ALLOWED
        if reply is not None:
            return self._refuse(reply)
        try:
            await self.receive(headers, await self._read(body))
        except _RefusedError as refused:
            return self._refuse(refused.reply)
        except (SignatureError, WebhookPayloadError) as error:
            _LOG.warning("refused a webhook with %d, %s: %s", error.status_hint, type(error).__name__, error)
            return _http.FOREIGN if isinstance(error, SignatureError) else _http.UNREADABLE
        except InboxError as error:
            _LOG.error("answered a webhook with 503, so that Veriff sends it again: %s", error)
            return _http.NOT_RECORDED
        return _http.RECORDED

    async def aclose(self) -> None:
        """Take nothing more, and wait for what is being recorded and for the calls of `on_event`, then cancel them.

        Webhooks that come afterwards are answered 503, so that Veriff sends them again, about an hour later. A
        function that runs in a thread cannot be cancelled: it is left to end by itself. It is called in the event loop
        that used the receiver; what runs in another loop goes on there.
        """
        require_asyncio()
        self._is_closed = True
        work = self._works.get(asyncio.get_running_loop())
        if work is not None:
            await work.aclose(self._close_timeout)
        else:  # the program closes it from outside of the loops that used it
            for other in tuple(self._works.values()):
                other.is_closed = True

    def _work(self) -> LoopWork:
        """Return what runs on this event loop, and drop what loops that have ended left behind."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            msg = "A WebhookReceiver needs a running event loop of asyncio: call it from a coroutine under asyncio."
            raise ConfigurationError(msg)
        work = self._works.get(loop)
        if work is None:
            for other, left in tuple(self._works.items()):
                if other.is_closed():
                    self._works.pop(other, None)
                    left.give_up()
            tasks = set[asyncio.Task[object]]()
            work = self._works[loop] = LoopWork(tasks, self._new_calls(tasks), is_closed=self._is_closed)
        return work

    def _new_calls(self, tasks: set[asyncio.Task[object]]) -> Calls | None:
        if self._on_event is None:
            return None
        return Calls(
            self._on_event, most=self._max_running, tasks=tasks, counters=self._counters, context=self._context
        )

    def _refuse(self, reply: WebhookResponse) -> WebhookResponse:
        self._refused += 1
        _LOG.warning("refused a webhook with %d: %s", reply.status, reply.body.decode())
        return reply

    async def _read(self, body: bytes | AsyncIterable[bytes]) -> bytes:
        """Read a body, but never hold more of it than may be; closing a generator that is not read to its end."""
        if not isinstance(body, AsyncIterable):
            whole = as_bytes(body)
            if len(whole) > self._max_body:
                raise _RefusedError(_http.TOO_LARGE)
            return whole
        held = BytesIO()
        limit = asyncio.timeout(self._body_timeout)
        try:
            async with limit, _closing(body):
                async for chunk in body:
                    piece = as_bytes(chunk, "a chunk of the body")
                    if held.tell() + len(piece) > self._max_body:
                        raise _RefusedError(_http.TOO_LARGE)  # noqa: TRY301  the generator is closed on the way
                    held.write(piece)
        except (_RefusedError, InvalidArgumentError):
            raise
        except Exception:  # noqa: BLE001  each server has its own error for a connection that is gone
            raise _RefusedError(_http.TOO_SLOW if limit.expired() else _http.BROKEN_OFF) from None
        return held.getvalue()

    def _quick(self) -> MemoryInbox | None:
        """Return the inbox if it is one that never waits, and whose `record` is not somebody else's."""
        inbox = self._inbox
        if isinstance(inbox, MemoryInbox) and getattr(inbox.record, "__func__", None) is MemoryInbox.record:
            return inbox
        return None

    def _kept_now(self, work: LoopWork, inbox: MemoryInbox, event: WebhookEvent, body: bytes) -> RecordResult:
        """Record an event here and now: what does not wait is not cancelled on the way, and needs no task."""
        try:
            recorded = inbox.record_now(event, body=body)
        except Exception as error:  # noqa: BLE001  as below
            failed = _failed(error)
        else:
            return self._counted(work, recorded)
        raise failed

    async def _record(self, work: LoopWork, event: WebhookEvent) -> RecordResult | InboxError:
        """Record an event and have `on_event` called; an error is returned, since nobody may be there to catch it."""
        try:
            recorded = await self._inbox.record(event)
            _ = recorded.is_duplicate  # an inbox of the user's own may return anything
        except Exception as error:  # noqa: BLE001  an inbox of the user's own
            return _failed(error)
        return self._counted(work, recorded)

    def _counted(self, work: LoopWork, recorded: RecordResult) -> RecordResult:
        """Count what was recorded, and have `on_event` called."""
        is_repeated = recorded.is_duplicate
        self._recorded += 1
        self._repeated += is_repeated
        if work.calls is not None and not is_repeated:
            work.calls.add(recorded)
        return recorded


def _failed(error: Exception) -> InboxError:
    if isinstance(error, InboxError):
        return error
    return InboxError(f"The inbox failed with {type(error).__name__}: have it raise an InboxError that says why.")


def _closing(body: AsyncIterable[bytes]) -> AbstractAsyncContextManager[object]:
    return aclosing(cast("AsyncGenerator[bytes]", body)) if isinstance(body, AsyncGenerator) else nullcontext()


def _check_above_zero(**options: object) -> None:
    for name, value in options.items():
        check_number(name, value, above=True, remedy="give a number above zero")


def _check_whole(**options: object) -> None:
    """Refuse a fraction and infinity: a length is compared by its digits, and calls are counted."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            msg = f"{name} is {value!r}: give a whole number above zero."
            raise ConfigurationError(msg)


def _check_inbox(inbox: object) -> None:
    if not callable(getattr(inbox, "record", None)) or isinstance(inbox, type):
        msg = f"inbox must be an inbox, got {type(inbox).__name__}: pass SqliteInbox(...) or another one."
        raise ConfigurationError(msg)
