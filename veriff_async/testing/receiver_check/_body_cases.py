"""Cases about bodies: the signature counts for the bytes as received, and unusable bodies do no harm."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from attrs import evolve

from veriff_async.sandbox._records import WebhookKind
from veriff_async.testing.receiver_check import _fixes
from veriff_async.testing.receiver_check._case import CaseGroup, CaseSeverity, RunnableCase
from veriff_async.testing.receiver_check._context import Webhook
from veriff_async.testing.receiver_check._judge import judge_accepted, judge_answered, judge_refused
from veriff_async.testing.receiver_check._sources import CHANGES_PAGE, CONVENTION, HMAC_PAGE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.testing.receiver_check._case import Finding
    from veriff_async.testing.receiver_check._context import CheckContext

__all__ = ("BODY_CASES",)

_BYTES: Final = (
    "The signature counts for the bytes as sent. An endpoint that writes the JSON again before it checks refuses "
    "genuine webhooks, and Veriff drops them after seven days."
)
_TRUSTED: Final = (
    "Only the holder of the secret can send it, so it is rare; but an endpoint that answers 5xx looks broken in its "
    "monitoring, and Veriff would repeat the webhook for days."
)
_DEPTH: Final = 50_000
_LARGE_VALUE: Final = 200_000
_ZEROS: Final = 16 * 1024 * 1024


def _decision_text(context: CheckContext) -> str:
    return context.webhook(context.sample(WebhookKind.DECISION, "approved")).body.decode()


def _add_members(context: CheckContext, members: str) -> bytes:
    """Return a decision with more members, as literal JSON."""
    return (_decision_text(context)[:-1] + "," + members + "}").encode()


def _acceptance_case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    make: Callable[[CheckContext], bytes],
    *,
    why: str = _BYTES,
    severity: CaseSeverity = CaseSeverity.ERROR,
    source: str = HMAC_PAGE,
    fix: _fixes.Fix = _fixes.RAW_BODY,
) -> RunnableCase:
    async def run(context: CheckContext) -> Finding:
        return judge_accepted(await context.post(context.webhook(make(context))))

    return RunnableCase(
        name=name,
        group=CaseGroup.BODIES,
        severity=severity,
        sends=sends,
        expects="accept it with 200",
        why=why,
        source=source,
        fix=fix,
        run=run,
    )


def _response_case(name: str, sends: str, body: bytes) -> RunnableCase:
    """Return a case that sends a signed body that is not a webhook."""

    async def run(context: CheckContext) -> Finding:
        return judge_answered(await context.post(context.webhook(body)))

    return RunnableCase(
        name=name,
        group=CaseGroup.BODIES,
        severity=CaseSeverity.WARNING,
        sends=sends,
        expects="answer, with 4xx or 200",
        why=_TRUSTED,
        source=CONVENTION,
        fix=_fixes.REFUSE_UNREADABLE,
        run=run,
    )


def _reverse_members(context: CheckContext) -> bytes:
    def turn(value: object) -> object:
        if not isinstance(value, dict):
            return value
        members = cast("dict[str, object]", value)
        return {name: turn(members[name]) for name in reversed(list(members))}

    # Written by json: it keeps the order of the members.
    return json.dumps(turn(json.loads(_decision_text(context))), separators=(",", ":")).encode()


async def _send_huge_body(context: CheckContext) -> Finding:
    body = b'{"a":"' + b"x" * context.options.large_bytes + b'"}'
    reply = await context.send(Webhook(body, context.sign_headers("0" * 64)).request())
    if reply.status is None and "closed" in reply.problem:
        # A connection that is reset while the body is sent loses the response on its way.
        return judge_refused(evolve(reply, status=413))
    return judge_refused(reply, "The huge body without a correct signature")


@cache
def _zip_bomb() -> bytes:
    return gzip.compress(b"0" * _ZEROS, 9)


async def _send_zip_bomb(context: CheckContext) -> Finding:
    body = _zip_bomb()
    webhook = Webhook(body, (("Content-Encoding", "gzip"), *context.sign_headers("0" * 64)))
    return judge_refused(await context.post(webhook), "The compressed body without a correct signature")


async def _send_compressed(context: CheckContext) -> Finding:
    body = gzip.compress(_decision_text(context).encode())
    webhook = context.webhook(body)
    return judge_answered(await context.post(Webhook(body, (("Content-Encoding", "gzip"), *webhook.headers))))


BODY_CASES: Final = (
    _acceptance_case(
        "body-white-space",
        "a decision with spaces, tabs and line ends between its members",
        lambda context: b" \r\n" + json.dumps(json.loads(_decision_text(context)), indent="\t").encode() + b"\n ",
    ),
    _acceptance_case(
        "body-escapes",
        "a decision with letters beyond ASCII, both escaped and not, and with escaped slashes",
        lambda context: _add_members(
            context, '"addedLater":"\\u00e9\\u00C9é✓\\ud83d\\ude00😀\\/\\/ / \\u003c<\\u007f"'
        ),
    ),
    _acceptance_case(
        "body-numbers",
        "a decision with numbers such as 1.0, 1e2 and 12345678901234567890",
        lambda context: _add_members(context, '"addedLater":[1.0,1e2,1E+2,-0.0,0.10,12345678901234567890,1.7976e308]'),
    ),
    _acceptance_case(
        "body-order",
        "a decision with its members in reverse order",
        _reverse_members,
        why="Veriff documents that the order of members may change. " + _BYTES,
        source=CHANGES_PAGE,
    ),
    _acceptance_case(
        "body-duplicate-members",
        "a decision in which an unknown member comes twice",
        lambda context: _add_members(context, '"addedLater":1,"addedLater":2'),
        severity=CaseSeverity.NOTE,
        source=UNKNOWN,
    ),
    _acceptance_case(
        "body-large",
        "a decision of 200 kB",
        lambda context: _add_members(context, f'"addedLater":"{"x" * _LARGE_VALUE}"'),
        why="The size of a webhook is not documented. The default limits of some frameworks, such as the 100 kB of "
        "Express, are close to what many risk labels and addresses take.",
        severity=CaseSeverity.WARNING,
        source=UNKNOWN,
        fix=_fixes.LIMIT_BODY,
    ),
    _response_case("body-not-json", "a signed body that is not JSON", b"<xml/>"),
    _response_case("body-empty", "a signed empty body", b""),
    _response_case("body-array", "a signed JSON array", b"[1, 2]"),
    _response_case("body-null", "a signed JSON null", b"null"),
    _response_case(
        "body-not-utf8", "signed JSON with bytes that are not UTF-8", b'{"id":"\xff\xfe","action":"started"}'
    ),
    _response_case("body-deep", "signed JSON that is nested 50,000 times", b"[" * _DEPTH + b"]" * _DEPTH),
    _response_case(
        "body-wrong-types",
        "a signed decision whose members have other types",
        b'{"status":1,"verification":{"id":[],"status":{},"code":"x","person":7,"document":[null]}}',
    ),
    RunnableCase(
        name="body-huge",
        group=CaseGroup.BODIES,
        severity=CaseSeverity.ERROR,
        sends="a body of several megabytes without a correct signature",
        expects="refuse it with 4xx, or close the connection",
        why="Anyone could fill the memory of the endpoint.",
        source=CONVENTION,
        fix=_fixes.LIMIT_BODY,
        run=_send_huge_body,
    ),
    RunnableCase(
        name="body-zip-bomb",
        group=CaseGroup.BODIES,
        severity=CaseSeverity.ERROR,
        sends="16 kB that unpack to 16 MB, without a correct signature",
        expects="refuse it with 4xx",
        why="A small request could take much memory and time.",
        source=CONVENTION,
        fix=_fixes.LIMIT_BODY,
        run=_send_zip_bomb,
    ),
    RunnableCase(
        name="body-compressed",
        group=CaseGroup.BODIES,
        severity=CaseSeverity.NOTE,
        sends="a signed decision with Content-Encoding: gzip",
        expects="answer, with 4xx or 200",
        why="Veriff's webhooks were never seen compressed, so a refusal with 415 is right.",
        source=UNKNOWN,
        fix=_fixes.LIMIT_BODY,
        run=_send_compressed,
    ),
)
