"""Cases about HTTP: speed, connections, methods and other parts of requests."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from attrs import evolve

from veriff_async.sandbox._records import WebhookKind
from veriff_async.testing.receiver_check import _fixes
from veriff_async.testing.receiver_check._address import is_local
from veriff_async.testing.receiver_check._case import CaseGroup, CaseOutcome, CaseSeverity, Finding, RunnableCase
from veriff_async.testing.receiver_check._context import Webhook
from veriff_async.testing.receiver_check._http_client import HttpConnection, HttpRequest, Reply, close
from veriff_async.testing.receiver_check._judge import judge_accepted, judge_answered, judge_refused, worst
from veriff_async.testing.receiver_check._sources import CONVENTION, INTEGRATORS, RETRIES_PAGE, UNKNOWN, WEBHOOKS_PAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.testing.receiver_check._context import CheckContext

__all__ = ("HTTP_CASES",)

_SERIAL: Final = 5
_BURST: Final = 20
_PIECES: Final = 3
_HTTPS: Final = 443
_STACK_TRACE: Final = re.compile(
    rb"Traceback \(most recent call last\)|\bat [\w.$<>]+ \([^)]{1,200}:\d+(?::\d+)?\)|\bat [\w.$]+\([\w]+\.java:\d+\)"
    rb"|Stack trace:\n#0 |goroutine \d+ \[running\]"
)


def _decision(context: CheckContext) -> Webhook:
    return context.webhook(context.sample(WebhookKind.DECISION, "approved"))


def _with_content_type(webhook: Webhook, value: str | None) -> Webhook:
    kept = tuple((name, text) for name, text in webhook.headers if name != "content-type")
    return Webhook(webhook.body, kept if value is None else (("content-type", value), *kept))


async def _check_response_time(context: CheckContext) -> Finding:
    replies = [await context.post(_decision(context)) for _ in range(_SERIAL)]
    finding = worst([judge_accepted(reply) for reply in replies])
    slowest = max(reply.seconds for reply in replies)
    if finding.outcome is CaseOutcome.FAILED:
        return finding
    if slowest > context.options.deadline / 2:
        return Finding.failed(f"The slowest of {_SERIAL} took {slowest:.1f} s.", CaseSeverity.WARNING)
    return Finding.passed(f"The slowest of {_SERIAL} took {slowest * 1000:.0f} ms.")


async def _check_burst(context: CheckContext) -> Finding:
    replies = await context.post_together([_decision(context) for _ in range(_BURST)])
    finding = worst([judge_accepted(reply, "One of the webhooks") for reply in replies])
    slowest = max(reply.seconds for reply in replies)
    if finding.outcome is CaseOutcome.FAILED:
        return finding
    return Finding.passed(f"The slowest of {_BURST} took {slowest * 1000:.0f} ms.")


async def _check_redirect(context: CheckContext) -> Finding:
    reply = await context.post(_decision(context))
    if reply.status is not None and reply.status // 100 == 3:  # noqa: PLR2004  redirects
        return Finding.failed(f"HTTP {reply.status}.")
    return Finding.passed(f"{reply.describe()}.")


def _in_pieces(context: CheckContext) -> HttpRequest:
    """Return a request whose body is cut within letters: decoding each piece by itself destroys them."""
    body = dict(context.sample(WebhookKind.DECISION, "approved"))
    # A letter of two bytes is cut before its second byte with one of these lengths.
    webhooks = [context.webhook({**body, "addedLater": "é" * (200 + length), "after": "ab"}) for length in range(6)]
    webhook = next((each for each in webhooks if _is_cut_inside_letter(each.body)), webhooks[0])
    return evolve(webhook.request(), pieces=_PIECES)


def _is_cut_inside_letter(body: bytes) -> bool:
    size = -(-len(body) // _PIECES)
    return any(body[position] & 0xC0 == 0x80 for position in (size, 2 * size))  # noqa: PLR2004  later bytes in UTF-8


async def _check_slow_body(context: CheckContext) -> Finding:
    request = evolve(_in_pieces(context), pause=context.options.slow_seconds / (_PIECES - 1))
    return judge_accepted(await context.send(request), "The slow webhook")


async def _check_stall(context: CheckContext) -> Finding:
    if context.options.stall_seconds is None:
        return Finding.not_checked("Say how long to wait: --stall-seconds 15, or stall_seconds=15.")
    request = evolve(_decision(context).request(), stalls=True, deadline=context.options.stall_seconds)
    reply = await context.send(request)
    if reply.status is None and "closed" not in reply.problem:
        return Finding.failed(f"The endpoint waited for {context.options.stall_seconds:g} s or longer.")
    if reply.status == 200:  # noqa: PLR2004  OK
        return Finding.failed("HTTP 200, although the last byte was never sent.")
    return Finding.passed(f"{reply.describe()}.")


async def _check_keep_alive(context: CheckContext) -> Finding:
    async with HttpConnection(context.endpoint) as connection:
        first = await context.send(_decision(context).request(), connection)
        if not first.is_reusable:
            return judge_accepted(first)
        second = await context.send(_decision(context).request(), connection)
        return judge_accepted(second, "The second webhook on the connection")


async def _check_after_refusal(context: CheckContext) -> Finding:
    async with HttpConnection(context.endpoint) as connection:
        forged = Webhook(_decision(context).body, context.sign_headers("0" * 64))
        first = await context.send(forged.request(), connection)
        if not first.is_reusable:
            return Finding.passed(f"{first.describe()}, and the connection is closed.")
        second = await context.send(_decision(context).request(), connection)
        return judge_accepted(second, "A webhook on the connection of a refused one")


def _request_case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    judge: Callable[[Reply], Finding],
    make: Callable[[CheckContext], HttpRequest],
    *,
    severity: CaseSeverity,
    why: str,
    source: str,
    expects: str = "accept it with 200",
    fix: _fixes.Fix = _fixes.HTTP_RULES,
) -> RunnableCase:
    async def run(context: CheckContext) -> Finding:
        return judge(await context.send(make(context)))

    return _case(name, sends, run, severity=severity, why=why, source=source, expects=expects, fix=fix)


def _case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    run: Callable[[CheckContext], Awaitable[Finding]],
    *,
    severity: CaseSeverity,
    why: str,
    source: str,
    expects: str = "accept it with 200",
    fix: _fixes.Fix,
) -> RunnableCase:
    return RunnableCase(
        name=name,
        group=CaseGroup.HTTP,
        severity=severity,
        sends=sends,
        expects=expects,
        why=why,
        source=source,
        fix=fix,
        run=run,
    )


def _method_case(method: str, judge: Callable[[Reply], Finding], *, why: str, expects: str) -> RunnableCase:
    return _request_case(
        f"method-{method.lower()}",
        f"a {method} request without a signature",
        judge,
        lambda _context: HttpRequest(method=method),
        severity=CaseSeverity.WARNING,
        why=why,
        source=CONVENTION,
        expects=expects,
    )


async def _check_details(context: CheckContext) -> Finding:
    """Look into responses to requests that often show a debug page or the expected signature."""
    body = _decision(context).body
    for webhook in (
        Webhook(body, context.sign_headers("0" * 64)),
        Webhook(body, context.sign_headers("\xe9")),
        context.webhook(b"{"),
        context.webhook(b'{"verification":{"id":7,"status":[]}}'),
    ):
        await context.post(webhook)
    for reply, signature in context.replies:
        text = reply.body + repr(dict(reply.headers)).encode()
        if any(secret.encode() in text for secret in context.credentials.secrets):
            return Finding.failed("A response contains the shared secret.")
        if signature.encode() in text.lower():
            return Finding.failed("The response to a forged webhook contains the signature that it should have.")
        if _STACK_TRACE.search(text):
            return Finding.failed("A response contains a stack trace.", CaseSeverity.WARNING)
    return Finding.passed("The responses contain neither signatures nor stack traces.")


async def _check_tls(context: CheckContext) -> Finding:  # noqa: PLR0911  one for each requirement
    parts = urlsplit(context.endpoint.url)
    host, port = context.endpoint.address
    if is_local(host):
        return Finding.not_checked("The address is local: run the check with the public URL, and --yes.")
    if parts.scheme != "https":
        return Finding.failed("The URL begins with http://.")
    if port != _HTTPS:
        return Finding.failed(f"The port is {port}.")
    if ":" in host or host.replace(".", "").isdigit():
        return Finding.failed("The host is an IP address.")
    # With the authorities of the system only, as Veriff does not know yours. Loading them reads the disk.
    context_of_system = await asyncio.to_thread(ssl.create_default_context)
    try:
        async with asyncio.timeout(context.options.deadline):
            _, writer = await asyncio.open_connection(host, port, ssl=context_of_system)
    except ssl.SSLCertVerificationError as error:
        return Finding.failed(f"The certificate is not trusted (OpenSSL reason {error.verify_code}).")
    except (OSError, TimeoutError) as error:
        return Finding.failed(f"No connection with TLS ({type(error).__name__}).")
    version: object = writer.get_extra_info("ssl_object").version()
    await close(writer)
    return Finding.passed(f"{version}, and a trusted certificate.")


_HARMLESS: Final = "Only strangers send it, so it must do no harm."

HTTP_CASES: Final = (
    _case(
        "tls",
        "a TLS handshake",
        _check_tls,
        severity=CaseSeverity.ERROR,
        why="Veriff accepts only https URLs with a host name, port 443 and a publicly trusted certificate.",
        source=WEBHOOKS_PAGE,
        expects="show a trusted certificate for its host name",
        fix=_fixes.CERTIFICATE,
    ),
    _case(
        "redirect",
        "a decision",
        _check_redirect,
        severity=CaseSeverity.ERROR,
        why="Only 200 counts for Veriff; whether it follows redirects is unknown.",
        source=RETRIES_PAGE,
        expects="answer without a redirect",
        fix=_fixes.NO_REDIRECT,
    ),
    _case(
        "response-time",
        "five decisions, one after the other",
        _check_response_time,
        severity=CaseSeverity.ERROR,
        why="Veriff waits for about five seconds and then counts the webhook as failed.",
        source=INTEGRATORS,
        expects="accept each with 200, within half of the deadline",
        fix=_fixes.FAST_ANSWER,
    ),
    _case(
        "burst",
        "decisions on twenty sessions at the same time",
        _check_burst,
        severity=CaseSeverity.ERROR,
        why="After an outage of yours, many webhooks arrive at once.",
        source=CONVENTION,
        expects="accept each with 200, within the deadline",
        fix=_fixes.FAST_ANSWER,
    ),
    _case(
        "slow-body",
        "a decision in three pieces with pauses",
        _check_slow_body,
        severity=CaseSeverity.WARNING,
        why="A body can arrive in several packets.",
        source=CONVENTION,
        fix=_fixes.TIME_LIMITS,
    ),
    _case(
        "stalled-body",
        "a decision without its last byte, on a connection that stays open",
        _check_stall,
        severity=CaseSeverity.WARNING,
        why="Anyone could occupy all connections or workers of the endpoint.",
        source=CONVENTION,
        expects="answer with an error, or close the connection",
        fix=_fixes.TIME_LIMITS,
    ),
    _case(
        "keep-alive",
        "two decisions on one connection",
        _check_keep_alive,
        severity=CaseSeverity.WARNING,
        why="A sender may use a connection again unless the response has Connection: close.",
        source=UNKNOWN,
        fix=_fixes.HTTP_RULES,
    ),
    _case(
        "keep-alive-after-refusal",
        "a forged decision, and then a genuine one on the same connection",
        _check_after_refusal,
        severity=CaseSeverity.WARNING,
        why="Behind a proxy, the requests of strangers and of Veriff share connections: what is left of the body of a "
        "refused request would be taken for the next request.",
        source=CONVENTION,
        expects="accept the second with 200, or close the connection after the first",
        fix=_fixes.HTTP_RULES,
    ),
    _request_case(
        "chunked-body",
        "a decision with Transfer-Encoding: chunked, without a length",
        judge_accepted,
        lambda context: evolve(_in_pieces(context), framing="chunked"),
        severity=CaseSeverity.WARNING,
        why="Some proxies send bodies in chunks.",
        source=UNKNOWN,
    ),
    _request_case(
        "expect-continue",
        "a decision with Expect: 100-continue",
        judge_accepted,
        lambda context: evolve(_decision(context).request(), expects_continue=True),
        severity=CaseSeverity.NOTE,
        why="Some clients and proxies ask before they send a body.",
        source=UNKNOWN,
    ),
    _request_case(
        "content-type-charset",
        "a decision with Content-Type: application/json; charset=utf-8",
        judge_accepted,
        lambda context: _with_content_type(_decision(context), "application/json; charset=utf-8").request(),
        severity=CaseSeverity.ERROR,
        why="Many HTTP clients add the parameter by themselves.",
        source=CONVENTION,
    ),
    _request_case(
        "content-type-other",
        "a signed decision with Content-Type: text/plain",
        judge_answered,
        lambda context: _with_content_type(_decision(context), "text/plain").request(),
        severity=CaseSeverity.WARNING,
        why=_HARMLESS,
        source=CONVENTION,
        expects="answer, with 4xx or 200",
    ),
    _request_case(
        "content-type-missing",
        "a signed decision without Content-Type",
        judge_answered,
        lambda context: _with_content_type(_decision(context), None).request(),
        severity=CaseSeverity.WARNING,
        why=_HARMLESS,
        source=CONVENTION,
        expects="answer, with 4xx or 200",
    ),
    _request_case(
        "headers-many",
        "a decision with forty more headers, such as those of proxies and tracing",
        judge_accepted,
        lambda context: Webhook(
            (made := _decision(context)).body,
            (*made.headers, *((f"x-added-{number}", "x" * 50) for number in range(40))),
        ).request(),
        severity=CaseSeverity.WARNING,
        why="Proxies and load balancers add headers.",
        source=CONVENTION,
    ),
    _method_case("GET", judge_answered, why="Browsers and monitors send it.", expects="answer, with 405 or a page"),
    _method_case(
        "HEAD", judge_answered, why="Browsers and monitors send it.", expects="answer, with 405 or without a body"
    ),
    _method_case("DELETE", judge_refused, why=_HARMLESS, expects="refuse it with 4xx"),
    _request_case(
        "method-put",
        "a signed decision as PUT",
        judge_answered,
        lambda context: evolve(_decision(context).request(), method="PUT"),
        severity=CaseSeverity.NOTE,
        why="A webhook is a POST.",
        source=WEBHOOKS_PAGE,
        expects="answer, with 405 or 200",
    ),
    _case(
        "response-details",
        "forged and unreadable webhooks",
        _check_details,
        severity=CaseSeverity.ERROR,
        why="A stranger who reads the expected signature can send any webhook; a stack trace helps attackers.",
        source=CONVENTION,
        expects="answer without secrets, signatures and stack traces",
        fix=_fixes.QUIET_RESPONSES,
    ),
)
