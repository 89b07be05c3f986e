"""Cases about authenticity: webhooks of strangers are refused, and each form of a correct signature is accepted."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from veriff_async._protocol import headers
from veriff_async._protocol.signing import sign
from veriff_async.sandbox._records import WebhookKind
from veriff_async.testing.receiver_check import _fixes
from veriff_async.testing.receiver_check._case import CaseGroup, CaseOutcome, CaseSeverity, Finding, RunnableCase
from veriff_async.testing.receiver_check._context import Webhook
from veriff_async.testing.receiver_check._judge import judge_accepted, judge_refused
from veriff_async.testing.receiver_check._sources import CONVENTION, HMAC_PAGE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from veriff_async.testing.receiver_check._context import CheckContext
    from veriff_async.testing.receiver_check._fixes import Fix

__all__ = ("SIGNATURE_CASES",)

_FORGERY: Final = "Anyone who knows the address could report any person as verified."
_ACCEPT: Final = "accept it with 200"
_DIGITS: Final = 64


def _decision_body(context: CheckContext) -> bytes:
    return context.webhook(context.sample(WebhookKind.DECISION, "approved")).body


def _expect_refusal(make: Callable[[CheckContext], Webhook]) -> Callable[[CheckContext], Awaitable[Finding]]:
    async def run(context: CheckContext) -> Finding:
        return judge_refused(await context.post(make(context)), "The forged webhook")

    return run


def _expect_acceptance(make: Callable[[CheckContext], Webhook]) -> Callable[[CheckContext], Awaitable[Finding]]:
    async def run(context: CheckContext) -> Finding:
        return judge_accepted(await context.post(make(context)))

    return run


def _case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    run: Callable[[CheckContext], Awaitable[Finding]],
    *,
    expects: str = "refuse it with 4xx",
    why: str = _FORGERY,
    severity: CaseSeverity = CaseSeverity.ERROR,
    source: str = HMAC_PAGE,
    fix: Fix = _fixes.SIGNATURE,
) -> RunnableCase:
    return RunnableCase(
        name=name,
        group=CaseGroup.SIGNATURES,
        severity=severity,
        sends=sends,
        expects=expects,
        why=why,
        source=source,
        fix=fix,
        run=run,
    )


def _forgery_case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    make: Callable[[CheckContext, bytes], tuple[tuple[str, str], ...]],
    *,
    why: str = _FORGERY,
    severity: CaseSeverity = CaseSeverity.ERROR,
    source: str = HMAC_PAGE,
    fix: Fix = _fixes.SIGNATURE,
) -> RunnableCase:
    """Return a case that sends a decision whose headers must not be accepted."""

    def webhook(context: CheckContext) -> Webhook:
        body = _decision_body(context)
        return Webhook(body, make(context, body))

    return _case(name, sends, _expect_refusal(webhook), why=why, severity=severity, source=source, fix=fix)


def _without(pairs: tuple[tuple[str, str], ...], prefix: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in pairs if not name.startswith(prefix))


def _change_status(context: CheckContext) -> Webhook:
    webhook = context.webhook(context.sample(WebhookKind.DECISION, "declined"))
    # Of the same length, and still JSON: the attack is a decision that says approved.
    return Webhook(webhook.body.replace(b'"status":"declined"', b'"status":"approved"'), webhook.headers)


def _reformat_body(context: CheckContext) -> Webhook:
    webhook = context.webhook(context.sample(WebhookKind.DECISION, "approved"))
    return Webhook(webhook.body.replace(b'":', b'": ').replace(b',"', b', "'), webhook.headers)


def _swap_signature(context: CheckContext) -> Webhook:
    other = context.webhook(context.sample(WebhookKind.DECISION, "declined"))
    return Webhook(_decision_body(context), other.headers)


async def _check_older_secrets(context: CheckContext) -> Finding:
    if not context.credentials.previous_secrets:
        return Finding.not_checked(
            "Give both secrets, newest first: VERIFF_SHARED_SECRET=new,old, or Credentials(previous_secrets=...)."
        )
    for secret in context.credentials.previous_secrets:
        finding = judge_accepted(
            await context.post(context.webhook(context.sample(WebhookKind.DECISION), secret=secret)),
            "The webhook with an older secret",
        )
        if finding.outcome is CaseOutcome.FAILED:
            return finding
    return Finding.passed("HTTP 200.")


async def _check_revoked_secret(context: CheckContext) -> Finding:
    if context.options.revoked_secret is None:
        return Finding.not_checked("Give the deleted secret: VERIFF_REVOKED_SECRET, or revoked_secret=....")
    webhook = context.webhook(context.sample(WebhookKind.DECISION), secret=context.options.revoked_secret)
    return judge_refused(await context.post(webhook), "The webhook with the deleted secret")


def _contradict_headers(context: CheckContext, body: bytes) -> tuple[tuple[str, str], ...]:
    right = context.sign_headers(sign(context.credentials.shared_secret, body))
    wrong = dict(context.sign_headers("0" * _DIGITS))
    return tuple((name, wrong[name] if name == headers.VRF_HMAC_SIGNATURE.lower() else value) for name, value in right)


def _legacy_headers(context: CheckContext, body: bytes) -> tuple[tuple[str, str], ...]:
    digest = hashlib.sha256(body).hexdigest()
    return (*context.sign_headers(None), ("x-signature", digest))


_DECISION_SIGNED: Final = "a decision whose signature is"

SIGNATURE_CASES: Final = (
    _forgery_case(
        "signature-missing", "a decision without a signature", lambda context, _body: context.sign_headers(None)
    ),
    _forgery_case(
        "signature-empty", "a decision with an empty signature", lambda context, _body: context.sign_headers("")
    ),
    _forgery_case(
        "signature-wrong-secret",
        "a decision signed with another secret",
        lambda context, body: context.sign_headers(sign(str(uuid4()), body)),
    ),
    _forgery_case(
        "signature-empty-secret",
        "a decision signed with an empty secret",
        lambda context, body: context.sign_headers(hmac.digest(b"", body, "sha256").hex()),
        why="A missing environment variable often becomes an empty secret, which anyone can guess.",
        fix=_fixes.SECRET,
    ),
    _forgery_case(
        "signature-undefined-secret",
        "a decision signed with the word undefined",
        lambda context, body: context.sign_headers(sign("undefined", body)),
        why="In JavaScript and shells a missing variable can become the text undefined, which anyone can guess.",
        fix=_fixes.SECRET,
    ),
    _forgery_case(
        "signature-api-key",
        "a decision signed with the API key",
        lambda context, body: context.sign_headers(sign(context.credentials.api_key, body)),
        why="The API key is in a header of each request, so it proves nothing.",
        fix=_fixes.SECRET,
    ),
    _forgery_case(
        "signature-hash",
        f"{_DECISION_SIGNED} the plain SHA-256 of the body",
        lambda context, body: context.sign_headers(hashlib.sha256(body).hexdigest()),
        why="A hash without a secret can be made by anyone.",
    ),
    _forgery_case(
        "signature-legacy-header",
        "a decision with only the old header x-signature, a plain SHA-256",
        _legacy_headers,
        why="A hash without a secret can be made by anyone.",
    ),
    _forgery_case(
        "signature-of-nothing",
        f"{_DECISION_SIGNED} that of an empty body",
        lambda context, _body: context.sign_headers(sign(context.credentials.shared_secret, b"")),
        why="An endpoint whose framework has consumed the body computes the signature of nothing, for every webhook.",
        fix=_fixes.RAW_BODY,
    ),
    _forgery_case(
        "signature-short",
        f"{_DECISION_SIGNED} cut after 8 digits",
        lambda context, body: context.sign_headers(sign(context.credentials.shared_secret, body)[:8]),
        why="An endpoint that compares only a part of the signature can be guessed.",
    ),
    _forgery_case(
        "signature-not-hex",
        f"{_DECISION_SIGNED} 64 letters that are not hex digits",
        lambda context, _body: context.sign_headers("z" * _DIGITS),
    ),
    _forgery_case(
        "signature-not-ascii",
        f"{_DECISION_SIGNED} not ASCII",
        lambda context, _body: context.sign_headers("\xe9" * _DIGITS),
        why="Some comparisons raise an error for such text, and a failing endpoint looks like an outage.",
    ),
    _case(
        "body-changed",
        "a declined decision that was changed to approved, with the original signature",
        _expect_refusal(_change_status),
        why="Anyone between Veriff and the endpoint could turn a decision around.",
    ),
    _case(
        "body-written-again",
        "a decision with other white space than the signed one",
        _expect_refusal(_reformat_body),
        why="An endpoint that accepts it signs JSON that it has written itself, so it refuses genuine webhooks as soon "
        "as Veriff writes a number, an escape or white space differently.",
        fix=_fixes.RAW_BODY,
    ),
    _case(
        "signature-of-other-event",
        "a decision with the signature of another genuine webhook",
        _expect_refusal(_swap_signature),
    ),
    _forgery_case(
        "api-key-other",
        "a decision with another API key and a correct signature",
        lambda context, body: context.sign_headers(sign(context.credentials.shared_secret, body), api_key=str(uuid4())),
        why="A webhook of another integration, for example of the test integration, would count.",
        severity=CaseSeverity.WARNING,
        fix=_fixes.API_KEY,
    ),
    _forgery_case(
        "api-key-missing",
        "a decision without an API key and with a correct signature",
        lambda context, body: context.sign_headers(sign(context.credentials.shared_secret, body), api_key=None),
        why="The API key distinguishes integrations.",
        severity=CaseSeverity.NOTE,
        fix=_fixes.API_KEY,
    ),
    _forgery_case(
        "families-contradict",
        "a decision whose x-hmac-signature is right and whose vrf-hmac-signature is wrong",
        _contradict_headers,
        why="A request that contradicts itself was changed on its way.",
        severity=CaseSeverity.NOTE,
        source=CONVENTION,
        fix=_fixes.HEADERS,
    ),
    _case(
        "secret-second",
        "a decision signed with each older secret that is still live",
        _check_older_secrets,
        expects=_ACCEPT,
        why="While a secret is replaced, webhooks signed with the other one would be lost.",
        fix=_fixes.KEY_RING,
    ),
    _case(
        "secret-revoked",
        "a decision signed with a secret that was deleted in the Customer Portal",
        _check_revoked_secret,
        why="A secret is often deleted because a stranger may know it.",
        fix=_fixes.KEY_RING,
    ),
    _case(
        "signature-upper-case",
        "a decision whose signature has upper-case hex digits",
        _expect_acceptance(
            lambda context: Webhook(
                body := _decision_body(context),
                context.sign_headers(sign(context.credentials.shared_secret, body).upper()),
            )
        ),
        severity=CaseSeverity.NOTE,
        expects=_ACCEPT,
        why="Veriff documents hex digits and shows lower-case ones; a proxy or a later version may differ.",
        source=UNKNOWN,
    ),
    _case(
        "headers-x-only",
        "a decision with the headers x-auth-client and x-hmac-signature only",
        _expect_acceptance(
            lambda context: Webhook(
                (made := context.webhook(context.sample(WebhookKind.DECISION))).body, _without(made.headers, "vrf-")
            )
        ),
        expects=_ACCEPT,
        why="These headers are documented for webhooks; the others may be missing.",
        fix=_fixes.HEADERS,
    ),
    _case(
        "headers-vrf-only",
        "a decision with the headers vrf-auth-client and vrf-hmac-signature only",
        _expect_acceptance(
            lambda context: Webhook(
                (made := context.webhook(context.sample(WebhookKind.DECISION))).body, _without(made.headers, "x-")
            )
        ),
        severity=CaseSeverity.NOTE,
        expects=_ACCEPT,
        why="Veriff's page about HMAC names both families; whether a webhook ever has only these is unknown.",
        source=UNKNOWN,
        fix=_fixes.HEADERS,
    ),
    _case(
        "headers-capitalised",
        "a decision with header names in upper case",
        _expect_acceptance(
            lambda context: Webhook(
                (made := context.webhook(context.sample(WebhookKind.DECISION))).body,
                tuple((name.upper(), value) for name, value in made.headers),
            )
        ),
        severity=CaseSeverity.WARNING,
        expects=_ACCEPT,
        why="Names of headers have no case, and proxies change it.",
        source="https://www.rfc-editor.org/rfc/rfc9110#section-5.1",
        fix=_fixes.HEADERS,
    ),
)
