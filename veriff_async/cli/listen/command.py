"""A webhook receiver for development: it verifies, records, shows and hands on what is posted, until Ctrl-C."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from anyio import CapacityLimiter, to_thread

from veriff_async import Credentials, InboxError, SignatureError, WebhookPayloadError, verify_webhook
from veriff_async._protocol.signature_diagnosis import explain_signature
from veriff_async.cli._http import check_url
from veriff_async.cli._options import env_file_option, json_option, show_person_option
from veriff_async.cli._runtime import result_screen, run
from veriff_async.cli._settings import settings_from
from veriff_async.cli._streams import OutputError, print_result
from veriff_async.cli.listen import display
from veriff_async.cli.listen.forward import Forwarder
from veriff_async.cli.listen.loop_detection import leads_back
from veriff_async.cli.listen.server import serving, stopping
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models.json import EMPTY
from veriff_async.webhooks import WebhookReceiver, _http

if TYPE_CHECKING:
    from asyncio import Event
    from collections.abc import Callable, Mapping

    from veriff_async.cli._output import Screen
    from veriff_async.cli.listen.forward import Forwarded
    from veriff_async.inbox import Inbox, RecordResult

__all__ = ("listen", "run_listen")

_LOOP: Final = _http.WebhookResponse(508, b"This webhook was forwarded by this receiver, and came back to it.")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def _path(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or {"?", "#"} & set(value):
        msg = "a path begins with a slash, and has neither ? nor #."
        raise click.BadParameter(msg)
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--path", default="/webhooks/veriff", show_default=True, callback=_path, help="Path to receive at.")
@click.option(
    "--inbox", "inbox_file", type=_FILE, metavar="FILE", help="Record webhooks in this file, which ends waits."
)
@click.option(
    "--forward-to", "forward_to", callback=check_url, metavar="URL", help="Forward verified webhooks to this address."
)
@show_person_option
@env_file_option
@json_option
def listen(  # noqa: PLR0913  one for each option
    *,
    host: str,
    port: int,
    path: str,
    inbox_file: Path | None,
    forward_to: str | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Receive webhooks, and print a line for each, until Ctrl-C.

    What is signed rightly is recorded, answered 200 and then handed on, whatever becomes of that. What is not is
    refused with 401, and the line says why. With --json each line is a JSON object.
    """
    if forward_to is not None and leads_back(forward_to, host=host, port=port, path=path):
        msg = "--forward-to is where this command listens itself: give the address of your application."
        raise click.UsageError(msg)
    credentials = Credentials.from_env(settings_from(env_file))
    report = Report(None if for_program else result_screen(), show_person=show_person)
    run(run_listen(report, credentials, host=host, port=port, path=path, inbox_file=inbox_file, forward_to=forward_to))


async def run_listen(  # noqa: PLR0913  one for each option
    report: Report,
    credentials: Credentials,
    *,
    host: str,
    port: int,
    path: str,
    inbox_file: Path | None,
    forward_to: str | None,
) -> None:
    """Receive until SIGINT, SIGTERM or SIGHUP.

    Args:
        report: Where everything is told.
        credentials: Whose webhooks are taken.
        host: Address to listen on.
        port: Port to listen on.
        path: Path to receive at.
        inbox_file: Where webhooks are recorded; in memory when left out.
        forward_to: Where they are handed on to.
    """
    async with AsyncExitStack() as parts:
        report.stopped = parts.enter_context(stopping())
        inbox: Inbox = await parts.enter_async_context(SqliteInbox(inbox_file) if inbox_file else MemoryInbox())
        receiver = await parts.enter_async_context(WebhookReceiver(credentials, inbox))
        forwarder = Forwarder(forward_to, report.forwarded) if forward_to is not None else None
        if forwarder is not None:
            await parts.enter_async_context(forwarder)
        ear = _Ear(receiver, forwarder, report)
        report.listening(await parts.enter_async_context(serving(ear, host=host, port=port, path=path)))
        await report.stopped.wait()
    report.ended()
    if report.failure is not None:
        raise report.failure


class Report:
    """Tells what comes in: a line for people, or a JSON object in a line for programs.

    Args:
        screen: Where people look; `None` for programs.
        show_person: Whether the person's data is shown too.
    """

    def __init__(self, screen: Screen | None, *, show_person: bool) -> None:
        """Take who is told."""
        self._screen = screen
        self._show_person = show_person
        self.stopped: Event | None = None
        self.failure: OutputError | None = None

    def listening(self, url: str) -> None:
        """Tell where to post to."""
        self._tell({"what": "listening", "url": url}, f"Listening at {url}; Ctrl-C stops it.", at=False)

    def ended(self) -> None:
        """Tell that it is over."""
        self._tell({"what": "stopped"}, "Stopped.", at=False)

    def recorded(self, recorded: RecordResult, *, place: int) -> None:
        """Tell of a webhook; `place` is that of the secret that signed it."""
        person = display.person_of(recorded.event) if self._show_person else EMPTY
        line = display.recorded_line(recorded, place=place)
        for part, members in person.items():
            line += f"\n          {part}: {json.dumps(members, ensure_ascii=False)}"
        self._tell(display.recorded_document(recorded, place=place) | dict(person), line)

    def refused(self, reply: _http.WebhookResponse, *, cause: str, advice: str, style: str = "red") -> None:
        """Tell of a request that was refused, and why."""
        document = {"what": "refused", "answered": reply.status, "cause": cause, "advice": advice}
        self._tell(document, f"{reply.status}  refused      {advice}", style=style)

    def forwarded(self, forwarded: Forwarded) -> None:
        """Tell of a webhook that was handed on."""
        is_good = forwarded.answer is not None and forwarded.answer.is_taken
        style = "dim" if is_good else "yellow"
        self._tell(display.forward_document(forwarded), display.forward_line(forwarded), style=style)

    def _tell(self, document: Mapping[str, object], line: str, *, at: bool = True, style: str | None = None) -> None:
        now = datetime.now(UTC)
        if self._screen is None:
            text = json.dumps({"time": now.isoformat(timespec="milliseconds"), **document})
            self._write(lambda: print_result(text))
            return
        screen = self._screen
        # What a webhook says is Veriff's, but a terminal would obey it.
        plain = "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in line)
        self._write(lambda: screen.say(f"{now.astimezone():%H:%M:%S}  {plain}" if at else plain, style=style))

    def _write(self, write: Callable[[], None]) -> None:
        """Write a line; when that is no longer possible, stop receiving instead of failing a webhook."""
        try:
            write()
        except OutputError as error:
            # A reader of a pipe that has ended, like head, has seen enough. Anything else is an error.
            self.failure = None if error.is_pipe else error
            if self.stopped is not None:
                self.stopped.set()


class _Ear:
    """Takes what is posted."""

    def __init__(self, receiver: WebhookReceiver, forwarder: Forwarder | None, report: Report) -> None:
        self._receiver = receiver
        self._forwarder = forwarder
        self._report = report
        # An explanation hashes a body some hundred times: one after the other, so that nobody can make it many.
        self._explaining = CapacityLimiter(1)

    async def take(self, headers: Mapping[str, str], body: bytes) -> _http.WebhookResponse:
        """Verify, record and tell; what is refused is explained."""
        if self._forwarder is not None and self._forwarder.mark.is_on(headers):
            advice = "It was forwarded from here and came back: give --forward-to the address of your application."
            return self._refuse(_LOOP, cause="forwarded to itself", advice=advice)
        try:
            recorded = await self._receiver.receive(headers, body)
        except SignatureError:
            credentials = self._receiver.credentials
            found = await to_thread.run_sync(explain_signature, headers, body, credentials, limiter=self._explaining)
            return self._refuse(_http.FOREIGN, cause=found.cause.value, advice=found.advice)
        except WebhookPayloadError as error:
            problems = "; ".join(error.problems) or "it is no JSON of Veriff's"
            return self._refuse(
                _http.UNREADABLE,
                cause="signed, but unreadable",
                advice=f"It is signed rightly, but cannot be read: {problems}.",
            )
        except InboxError as error:
            return self._refuse(_http.NOT_RECORDED, cause="not recorded", advice=str(error))
        event = recorded.event
        self._report.recorded(recorded, place=verify_webhook(headers, body, self._receiver.credentials).secret_index)
        if self._forwarder is not None:
            self._forwarder.add(event.kind, event.session_id, headers, body)
        return _http.RECORDED

    def refused(self, reply: _http.WebhookResponse) -> None:
        """Tell of a request that was refused unread."""
        self._refuse(reply, cause="no webhook", advice=reply.body.decode())

    def _refuse(self, reply: _http.WebhookResponse, *, cause: str, advice: str) -> _http.WebhookResponse:
        self._report.refused(reply, cause=cause, advice=advice)
        return reply
