"""The listen command: a webhook receiver for development that verifies, records, shows and forwards webhooks."""

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
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import check_url
from veriff_async.cli._options import env_file_option, json_lines_option, show_person_option
from veriff_async.cli._runtime import run, stdout_output
from veriff_async.cli._stdio import OutputError, print_stdout
from veriff_async.cli._store_keys import read_store_keys
from veriff_async.cli.listen import display
from veriff_async.cli.listen.forward import Forwarder
from veriff_async.cli.listen.loop_detection import is_own_address
from veriff_async.cli.listen.server import serve, stop_on_signals
from veriff_async.inbox import MemoryInbox, SqliteInbox
from veriff_async.models.json import EMPTY
from veriff_async.webhooks import WebhookReceiver, _http

if TYPE_CHECKING:
    from asyncio import Event
    from collections.abc import Callable, Mapping

    from veriff_async.cli._output import Output
    from veriff_async.cli.listen.forward import ForwardResult
    from veriff_async.inbox import Inbox, RecordResult

__all__ = ("listen", "run_listen")

# 508 Loop Detected (RFC 5842).
_LOOP: Final = _http.WebhookResponse(508, b"This receiver forwarded the webhook itself, and got it back.")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


def _path(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not value.startswith("/") or not value.isprintable() or {"?", "#"} & set(value):
        msg = "a path begins with a slash, and has neither ? nor #."
        raise click.BadParameter(msg)
    return value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 selects a free one."
)
@click.option("--path", default="/webhooks/veriff", show_default=True, callback=_path, help="Path to receive at.")
@click.option(
    "--inbox", "inbox_file", type=_FILE, metavar="FILE", help="Record webhooks in this file, which waits can use."
)
@click.option(
    "--forward-to", "forward_to", callback=check_url, metavar="URL", help="Forward verified webhooks to this address."
)
@show_person_option
@env_file_option
@json_lines_option
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

    Webhooks with a valid signature are recorded, answered 200 and then forwarded; forwarding errors do not change the
    response. Others are refused with 401, and the line says why. With --json each line is a JSON object.
    """
    if forward_to is not None and is_own_address(forward_to, host=host, port=port, path=path):
        msg = "--forward-to is the address of this command itself: give the address of your application."
        raise click.UsageError(msg)
    credentials = Credentials.from_env(load_settings(env_file))
    log = ListenLog(None if for_program else stdout_output(), show_person=show_person)
    run(run_listen(log, credentials, host=host, port=port, path=path, inbox_file=inbox_file, forward_to=forward_to))


async def run_listen(  # noqa: PLR0913  one for each option
    log: ListenLog,
    credentials: Credentials,
    *,
    host: str,
    port: int,
    path: str,
    inbox_file: Path | None,
    forward_to: str | None,
) -> None:
    """Receive until SIGINT, SIGTERM or SIGHUP."""
    async with AsyncExitStack() as stack:
        # First, so that a signal during the start is not lost.
        log.stopped = stack.enter_context(stop_on_signals())
        inbox: Inbox = await stack.enter_async_context(
            SqliteInbox(inbox_file, encryption=read_store_keys()) if inbox_file else MemoryInbox()
        )
        receiver = await stack.enter_async_context(WebhookReceiver(credentials, inbox))
        forwarder = Forwarder(forward_to, log.print_forwarded) if forward_to is not None else None
        if forwarder is not None:
            await stack.enter_async_context(forwarder)
        handler = _ListenHandler(receiver, forwarder, log)
        log.print_listening(await stack.enter_async_context(serve(handler, host=host, port=port, path=path)))
        await log.stopped.wait()
    log.print_stopped()
    if log.failure is not None:
        raise log.failure


class ListenLog:
    """Prints a line for each event, or a JSON object for programs.

    Args:
        output: Output for people; `None` for programs.
        show_person: Whether to show personal data.
    """

    def __init__(self, output: Output | None, *, show_person: bool) -> None:
        """Take the output."""
        self._screen = output
        self._show_person = show_person
        self.stopped: Event | None = None
        self.failure: OutputError | None = None

    def print_listening(self, url: str) -> None:
        """Print the address."""
        self._print({"type": "listening", "url": url}, f"Listening at {url}; Ctrl-C stops it.", with_time=False)

    def print_stopped(self) -> None:
        """Print that the receiver has stopped."""
        self._print({"type": "stopped"}, "Stopped.", with_time=False)

    def print_recorded(self, result: RecordResult, *, secret_index: int) -> None:
        """Print a recorded webhook; `secret_index` is that of the secret that signed it."""
        person = display.person_of(result.event) if self._show_person else EMPTY
        line = display.webhook_line(result, secret_index=secret_index)
        for part, members in person.items():
            # Names appear in their own script; `_print` replaces control characters.
            line += f"\n          {part}: {json.dumps(members, ensure_ascii=False)}"
        self._print(display.webhook_document(result, secret_index=secret_index) | dict(person), line)

    def print_refused(self, reply: _http.WebhookResponse, *, cause: str, advice: str, style: str = "red") -> None:
        """Print a refused request and the reason."""
        document = {"type": "refused", "http_status": reply.status, "cause": cause, "advice": advice}
        self._print(document, f"{reply.status}  refused      {advice}", style=style)

    def print_forwarded(self, forwarded: ForwardResult) -> None:
        """Print the result of forwarding a webhook."""
        is_good = forwarded.result is not None and forwarded.result.is_accepted
        style = "dim" if is_good else "yellow"
        self._print(display.forward_document(forwarded), display.forward_line(forwarded), style=style)

    def _print(
        self, document: Mapping[str, object], line: str, *, with_time: bool = True, style: str | None = None
    ) -> None:
        now = datetime.now(UTC)
        if self._screen is None:
            text = json.dumps({"time": now.isoformat(timespec="milliseconds"), **document})
            self._write(lambda: print_stdout(text))
            return
        output = self._screen
        # Control characters in a webhook must not reach the terminal.
        plain = "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in line)
        self._write(lambda: output.print(f"{now.astimezone():%H:%M:%S}  {plain}" if with_time else plain, style=style))

    def _write(self, write: Callable[[], None]) -> None:
        """Write a line. If that fails, stop receiving instead of failing a webhook."""
        try:
            write()
        except OutputError as error:
            # The reader of a pipe may end on purpose, like head. Anything else is an error.
            self.failure = None if error.is_pipe else error
            if self.stopped is not None:
                self.stopped.set()


class _ListenHandler:
    """Handles the requests of the server."""

    def __init__(self, receiver: WebhookReceiver, forwarder: Forwarder | None, log: ListenLog) -> None:
        self._receiver = receiver
        self._forwarder = forwarder
        self._log = log
        # An explanation hashes the body hundreds of times. One at a time, so that forged requests cannot use all cores.
        self._explaining = CapacityLimiter(1)

    async def handle(self, headers: Mapping[str, str], body: bytes) -> _http.WebhookResponse:
        """Verify, record and print a webhook; explain why a request is refused."""
        if self._forwarder is not None and self._forwarder.mark.is_present(headers):
            advice = "This command forwarded it and got it back: give --forward-to the address of your application."
            return self._refuse(_LOOP, cause="forwarded to itself", advice=advice)
        try:
            # Not `handle`, whose response does not say why a webhook was refused.
            recorded = await self._receiver.receive(headers, body)
        except SignatureError:
            credentials = self._receiver.credentials
            explanation = await to_thread.run_sync(
                explain_signature, headers, body, credentials, limiter=self._explaining
            )
            return self._refuse(_http.FOREIGN, cause=explanation.cause.value, advice=explanation.advice)
        except WebhookPayloadError as error:
            problems = "; ".join(error.problems) or "it is not JSON from Veriff"
            return self._refuse(
                _http.UNREADABLE,
                cause="signed, but unreadable",
                advice=f"Its signature is valid, but it cannot be read: {problems}.",
            )
        except InboxError as error:
            return self._refuse(_http.NOT_RECORDED, cause="not recorded", advice=str(error))
        event = recorded.event
        # `receive` does not return which secret matched, so the signature is checked again.
        self._log.print_recorded(
            recorded, secret_index=verify_webhook(headers, body, self._receiver.credentials).secret_index
        )
        if self._forwarder is not None:
            self._forwarder.add(event.kind, event.session_id, headers, body)
        return _http.RECORDED

    def on_refused(self, reply: _http.WebhookResponse) -> None:
        """Print a request that was refused before its body was read."""
        self._refuse(reply, cause="not a webhook", advice=reply.body.decode())

    def _refuse(self, reply: _http.WebhookResponse, *, cause: str, advice: str) -> _http.WebhookResponse:
        self._log.print_refused(reply, cause=cause, advice=advice)
        return reply
