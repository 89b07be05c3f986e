"""Sends stored events to a webhook endpoint again, signed as Veriff signs them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_number, check_text
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async._protocol.signed_headers import webhook_headers
from veriff_async._protocol.webhook import dump_event
from veriff_async.errors import ConfigurationError
from veriff_async.inbox._operations import FailedSessions, iter_sessions, was_received

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Container

    from veriff_async._http.probe import HttpProbe, ProbeResult
    from veriff_async.credentials import Credentials
    from veriff_async.inbox._protocol import SearchableInbox
    from veriff_async.models.inbox_search import SessionSearch

__all__ = ("ReplayedEvent", "replay_events")

# Seconds before the second and before the third attempt.
_PAUSES: Final = (0.5, 2.0)
_LOWEST_SERVER_ERROR: Final = 500
_TOO_MANY_REQUESTS: Final = 429


@frozen(kw_only=True)
class ReplayedEvent:
    """An event that was sent again.

    Attributes:
        session_id: Its session, if it names one.
        kind: Its kind, for example ``decision``.
        dedup_key: Its key.
        is_accepted: Whether the receiver answered 200; Veriff repeats webhooks with any other answer.
        status: The HTTP status of the last attempt; ``None`` without a response.
        problem: Why there was no response, else empty.
        is_last: Whether it was the last event of its session that is sent.
    """

    session_id: str | None
    kind: str
    dedup_key: str
    is_accepted: bool
    status: int | None
    problem: str
    is_last: bool


async def replay_events(  # noqa: PLR0913  all but three have a default
    inbox: SearchableInbox,
    url: str,
    credentials: Credentials,
    *,
    search: SessionSearch | None = None,
    done: Container[str | None] = frozenset(),
    rate: float = 20.0,
    timeout: float = 10.0,  # noqa: ASYNC109  of each request, not of the call
) -> AsyncGenerator[ReplayedEvent]:
    """Send the stored events of the sessions that a search finds to a webhook endpoint again.

    They are signed with the credentials, so a real receiver accepts them, recognises those that it has recorded, and
    answers 200 for them too. Events of one session are sent one after the other, in the order of recording. An attempt
    without a response, or with 429 or a 5xx, is repeated twice. When an event is not accepted, the later events of its
    session are not sent, so that the order stays.

    Events that a client recorded itself, when it submitted a session again, are not sent: Veriff never sent them.

    Args:
        inbox: The inbox.
        url: The address of your webhook endpoint. The bodies contain personal data: use https outside of this machine.
        credentials: The credentials of the receiver.
        search: Which sessions; by default all.
        done: Sessions to skip, to continue a replay: add the `session_id` of each event with `is_last` and
            `is_accepted`.
        rate: The most events per second.
        timeout: Seconds for the response to one request.

    Raises:
        ConfigurationError: The inbox cannot be searched, or an argument cannot work.
        InboxError: The inbox cannot be read. If this holds for some sessions alone, it is raised after the events of
            all others were sent.

    Example:
        >>> async for event in replay_events(inbox, "https://new.example/webhooks/veriff", credentials):
        ...     print(event.session_id, event.kind, event.status)
    """
    require_asyncio()
    _check_url(url)
    check_credentials(credentials)
    check_number("rate", rate, above=True, remedy="give events per second above zero")
    check_number("timeout", timeout, above=True, remedy="give seconds above zero")
    from veriff_async._http.probe import HttpProbe  # noqa: PLC0415  aiohttp, which few users of an inbox need

    pace, failures = _Pace(1 / rate), FailedSessions()
    async with HttpProbe(timeout) as probe, aclosing(iter_sessions(inbox, search)) as sessions:
        async for session in sessions:
            if session.session_id in done:
                continue
            stored = await failures.gather([(session.session_id, inbox.get_events(session.session_id))])
            events = [event for found in stored for event in found if was_received(event)]
            for number, event in enumerate(events, 1):
                result = await _send(probe, pace, url, credentials, dump_event(event))
                yield ReplayedEvent(
                    session_id=session.session_id,
                    kind=event.kind,
                    dedup_key=event.dedup_key,
                    is_accepted=result.is_accepted,
                    status=result.status,
                    problem=result.problem,
                    is_last=number == len(events),
                )
                if not result.is_accepted and session.session_id is not None:
                    break
    failures.check()


class _Pace:
    """Waits so that requests are sent at a limited rate."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._next = 0.0

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now < self._next:
            await asyncio.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval


async def _send(probe: HttpProbe, pace: _Pace, url: str, credentials: Credentials, body: bytes) -> ProbeResult:
    headers = webhook_headers(credentials, body)
    await pace.wait()
    result = await probe.post(url, headers, body)
    for pause in _PAUSES:
        if not _is_temporary(result.status):
            break
        await asyncio.sleep(pause)
        await pace.wait()
        result = await probe.post(url, headers, body)
    return result


def _is_temporary(status: int | None) -> bool:
    return status is None or status == _TOO_MANY_REQUESTS or status >= _LOWEST_SERVER_ERROR


def _check_url(url: str) -> None:
    text = check_text("url", url)
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        msg = "url must be an absolute http(s) URL: pass the address of your webhook endpoint."
        raise ConfigurationError(msg)
