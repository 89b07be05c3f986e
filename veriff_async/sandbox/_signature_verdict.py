"""Why the API key or the signature of a request was refused, in words for the developer of the client. Pure.

`explain_signature` searches for the mistake. Its advice is for receivers of messages; this module has the advice for
the sender of a request, who signs a text that depends on the endpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web
from attrs import define, frozen

from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async._protocol.signature_diagnosis import SignatureCause, explain_signature
from veriff_async._protocol.signing import is_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.credentials import Credentials

__all__ = (
    "FACTS",
    "MAX_EXPLAINED_BYTES",
    "VALID",
    "RefusedRequest",
    "RequestFacts",
    "SignatureVerdict",
    "explain_refusal",
)

MAX_EXPLAINED_BYTES: Final = 64 * 1024
"""Largest signed text that is searched for the mistake: a search hashes it about a hundred times."""


@frozen(kw_only=True)
class SignatureVerdict:
    """Whether the API key and the signature of a request are right.

    Attributes:
        result: ``"valid"``, ``"missing"`` or ``"wrong"``.
        cause: The mistake of the client; ``None`` if the signature is valid.
        advice: One sentence with the remedy; empty if the signature is valid.
    """

    result: str
    cause: SignatureCause | None = None
    advice: str = ""


VALID: Final = SignatureVerdict(result="valid")

_TOO_LARGE: Final = (
    f"The body is not kept, so the mistake was not searched for: repeat the request with less than "
    f"{MAX_EXPLAINED_BYTES // 1024} KiB to see it."
)

_SAME_BYTES: Final = "Serialise the body once, sign these bytes, and send the same bytes."

# Where the body that arrives differs from the one that was signed, the cause says how.
_ADVICE: Final[dict[SignatureCause, str]] = {
    SignatureCause.FAMILIES_DISAGREE: "Send one family of headers, or the same values in both.",
    SignatureCause.FOREIGN_CLIENT: "Use the API key and the secret of this sandbox: its environ has both.",
    SignatureCause.NOT_HEX: "Write the HMAC-SHA256 as 64 hex digits.",
    SignatureCause.BASE64_BODY: _SAME_BYTES,
    SignatureCause.TRAILING_NEWLINE: _SAME_BYTES,
    SignatureCause.LINE_ENDS: _SAME_BYTES,
    SignatureCause.BYTE_ORDER_MARK: _SAME_BYTES,
    SignatureCause.CHARSET: _SAME_BYTES,
    SignatureCause.RESERIALISED: _SAME_BYTES,
    SignatureCause.LEGACY_HEADER: "Send X-HMAC-SIGNATURE, an HMAC-SHA256, instead of the older X-SIGNATURE.",
}


@frozen(kw_only=True)
class RefusedRequest:
    """A request whose API key or signature was refused.

    Attributes:
        headers: Its headers.
        signed: The text that had to be signed; ``None`` if it was not read, or is too large to keep.
        expected: The name of that text, for example ``"the raw body"``.
        others: Texts that may have been signed by mistake, by their names.
        refusal: The sandbox's reason for the refusal, without a value from the request.
        lacks_key: Whether the API key is missing in the header that the endpoint reads.
    """

    headers: Mapping[str, str]
    signed: bytes | None
    expected: str
    others: Mapping[str, bytes]
    refusal: str
    lacks_key: bool = False


def explain_refusal(request: RefusedRequest, credentials: Credentials) -> SignatureVerdict:
    """Explain why the API key or the signature of a request was refused.

    It takes milliseconds for a text of `MAX_EXPLAINED_BYTES`, so call it in a thread.
    """
    if request.lacks_key:
        return _missing(request)
    other = _find_in_headers(request, credentials)
    if other is not None:
        return other
    text = request.signed
    if text is not None and len(text) > MAX_EXPLAINED_BYTES:
        text = None
    found = explain_signature(request.headers, text or b"", credentials)
    if found.cause is SignatureCause.MISSING:
        return _missing(request)
    # An empty text that does not match is all that could be tried without the body.
    if found.cause in {SignatureCause.EMPTY_BODY, SignatureCause.UNKNOWN}:
        if text is None:
            return _wrong(SignatureCause.TOO_LARGE, _TOO_LARGE)
        advice = f"Sign {request.expected} with the shared secret of this sandbox."
        return _wrong(SignatureCause.UNKNOWN, advice)
    return _wrong(found.cause, _ADVICE.get(found.cause, found.advice))


def _find_in_headers(request: RefusedRequest, credentials: Credentials) -> SignatureVerdict | None:
    """Return the mistakes that need no body: another API key, or the signature of another text."""
    auth = parse_auth_headers(request.headers)
    if auth.disagrees:
        return None
    if auth.names_other_key(credentials):
        return _wrong(SignatureCause.FOREIGN_CLIENT, _ADVICE[SignatureCause.FOREIGN_CLIENT])
    if auth.signature is None or not is_signature(auth.signature):
        return None
    for name, text in request.others.items():
        if text != request.signed and credentials.verify(text, auth.signature) is not None:
            return _wrong(SignatureCause.OTHER_TEXT, f"The signature is that of {name}: sign {request.expected}.")
    return None


def _missing(request: RefusedRequest) -> SignatureVerdict:
    advice = f"{request.refusal}: send it with each request, and look for a proxy that drops it."
    return SignatureVerdict(result="missing", cause=SignatureCause.MISSING, advice=advice)


def _wrong(cause: SignatureCause, advice: str) -> SignatureVerdict:
    result = "missing" if cause is SignatureCause.LEGACY_HEADER else "wrong"
    return SignatureVerdict(result=result, cause=cause, advice=advice)


@define
class RequestFacts:
    """Facts about a request.

    Attributes:
        session_id: The session that it is about.
        signed: The text that it had to sign, for the explanation of a wrong signature; ``None`` if it was not read, or
            is too large to keep.
        signature: Whether its signature is right; ``None`` if it was not checked.
        code: Veriff's code in the error response.
    """

    session_id: str | None = None
    signed: bytes | None = None
    signature: SignatureVerdict | None = None
    code: str | None = None


# One object with all facts, because each item of a request costs as much as reading the clock.
FACTS: Final = web.RequestKey("facts", RequestFacts)
"""The facts about a request to the API of Veriff."""
