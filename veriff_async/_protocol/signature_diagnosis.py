"""Why a signature does not match: the mistakes that receivers make, tried one by one.

For a person who looks for the mistake, not for the way of every message: it hashes the body some hundred times.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode
from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import frozen

from veriff_async._protocol.arguments import check_text
from veriff_async._protocol.authenticity import claim_of
from veriff_async._protocol.request_arguments import as_bytes, check_credentials
from veriff_async._protocol.signing import is_signature
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veriff_async._protocol.authenticity import Claim
    from veriff_async.credentials import Credentials

__all__ = ("SignatureCause", "SignatureExplanation", "explain_signature")

_LARGEST: Final = 1024 * 1024
_DIGEST: Final = 32
_BOM: Final = b"\xef\xbb\xbf"


class SignatureCause(Enum):
    """What is the matter with a signature."""

    MATCHES = "it matches"
    MISSING = "there is no signature or no API key"
    FAMILIES_DISAGREE = "the two families of headers disagree"
    FOREIGN_CLIENT = "another API key"
    FOREIGN_INTEGRATION = "another integration"
    NOT_HEX = "not 64 hex digits"
    BASE64 = "base64 instead of hex"
    EMPTY_BODY = "an empty body"
    BASE64_BODY = "the body is still in base64"
    TRAILING_NEWLINE = "white space at an end of the body"
    LINE_ENDS = "other line ends"
    BYTE_ORDER_MARK = "a byte order mark"
    CHARSET = "another charset"
    RESERIALISED = "the body was parsed and written again"
    OTHER_TEXT = "another text was signed"
    SECRET_FORM = "the secret was changed before use"  # noqa: S105  no secret
    PLAIN_HASH = "a hash without HMAC"
    LEGACY_HEADER = "only the older X-SIGNATURE header"
    TOO_LARGE = "too large to try"
    UNKNOWN = "none of the known mistakes"


@frozen
class SignatureExplanation:
    """What is the matter with a signature, and what to do; it shows neither secret nor body nor signature.

    Attributes:
        cause: What is the matter.
        advice: One sentence with the remedy.
        secret_index: The index of the secret that explains it, in `Credentials.secrets`.
    """

    cause: SignatureCause
    advice: str
    secret_index: int | None = None

    @property
    def matches(self) -> bool:
        """Whether nothing is the matter."""
        return self.cause is SignatureCause.MATCHES


_ADVICE: Final[dict[SignatureCause, str]] = {
    SignatureCause.MATCHES: "The signature is right.",
    SignatureCause.MISSING: "Look for a proxy that drops the X-AUTH-CLIENT or X-HMAC-SIGNATURE header.",
    SignatureCause.FAMILIES_DISAGREE: "Somebody changed one of the headers on the way; Veriff sends the same in both.",
    SignatureCause.FOREIGN_CLIENT: (
        "The message is for the integration with another API key: use that integration's credentials."
    ),
    SignatureCause.FOREIGN_INTEGRATION: (
        "The message is for another integration of the same API key: use that integration's secrets."
    ),
    SignatureCause.NOT_HEX: "A signature is 64 hex digits: look for what changed or cut the header.",
    SignatureCause.BASE64: "The digest is right and written in base64: write it in hex.",
    SignatureCause.EMPTY_BODY: "The body is empty: read the raw body before your framework does, and only once.",
    SignatureCause.BASE64_BODY: (
        "The body is still in base64: decode it first, as AWS Lambda says with isBase64Encoded, and verify the bytes."
    ),
    SignatureCause.TRAILING_NEWLINE: "White space was added or cut at an end of the body: take the raw bytes.",
    SignatureCause.LINE_ENDS: "Line ends were changed: take the raw bytes, not text.",
    SignatureCause.BYTE_ORDER_MARK: "A byte order mark was added or cut: take the raw bytes, not text.",
    SignatureCause.CHARSET: "The body was decoded and encoded in another charset: take the raw bytes, not text.",
    SignatureCause.RESERIALISED: (
        "The body was parsed and written again as JSON: take the raw bytes as they came, before any parsing."
    ),
    SignatureCause.OTHER_TEXT: "Not this body was signed but the other text: sign what the call's page says.",
    SignatureCause.SECRET_FORM: (
        "The secret was decoded, cut or changed before use: it is plain text, dashes included, without a newline."
    ),
    SignatureCause.PLAIN_HASH: "This is the older X-SIGNATURE, a hash of body and secret: use HMAC-SHA256.",
    SignatureCause.LEGACY_HEADER: (
        "Only the older X-SIGNATURE header came, a hash without HMAC: look for a proxy that drops X-HMAC-SIGNATURE."
    ),
    SignatureCause.TOO_LARGE: "The body is larger than any of Veriff's messages: check who sends it.",
    SignatureCause.UNKNOWN: (
        "No secret of these explains it: compare the API Keys page, and look for what changes the body on its way."
    ),
}


def explain_signature(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, *, other_text: str | None = None
) -> SignatureExplanation:
    """Explain why the signature of a message does not match.

    It tries the mistakes that are made most: a body that was parsed and written again, one that is still in base64,
    white space at its end, another charset, another key or integration, a secret that was decoded first, and the older
    X-SIGNATURE header in secret_index of X-HMAC-SIGNATURE.

    Args:
        headers: The message's headers, names in any case.
        body: The body as you have it.
        credentials: Whose message it should be.
        other_text: What may have been signed instead, for example the id or the path of a request.

    Returns:
        The cause with a remedy; nothing in it is secret or personal.

    Raises:
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    Example:
        >>> print(explain_signature(request.headers, body, credentials).advice)

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    body, credentials = as_bytes(body), check_credentials(credentials)
    if other_text is not None:
        check_text("other_text", other_text, error=InvalidArgumentError)
    claim = claim_of(headers)
    if claim.signature is None and claim.legacy is not None:
        return _explain_legacy(claim, body, credentials)
    written = claim.signature or ""
    signature = written.lower() if is_signature(written) else _from_base64(written)
    hopeless = _hopeless(claim, signature, body)
    if hopeless is not None:
        return _explained(hopeless)
    found = _search(signature, body, credentials, other_text)
    if found.cause is SignatureCause.MATCHES and signature != written.lower():
        found = _explained(SignatureCause.BASE64, found.secret_index)
    if found.cause in {SignatureCause.MATCHES, SignatureCause.UNKNOWN}:
        # Another key goes with another secret, so that nothing else can explain it; and what matches is refused for it.
        if claim.is_foreign(credentials):
            return _explained(SignatureCause.FOREIGN_CLIENT)
        if claim.is_of_other_integration(credentials):
            return _explained(SignatureCause.FOREIGN_INTEGRATION)
    return found


def _explain_legacy(claim: Claim, body: bytes, credentials: Credentials) -> SignatureExplanation:
    """Explain a message that has the older signature alone, and which secret made it."""
    if claim.client is not None and claim.is_foreign(credentials):
        return _explained(SignatureCause.FOREIGN_CLIENT)
    signature = (claim.legacy or "").lower()
    hashes = [hashlib.sha256(body + secret.encode()).hexdigest() for secret in credentials.secrets]
    index = hashes.index(signature) if signature in hashes else None
    return _explained(SignatureCause.LEGACY_HEADER, index)


def _hopeless(claim: Claim, signature: str, body: bytes) -> SignatureCause | None:
    """Return the cause of what need not be searched for."""
    if claim.signature is None or claim.client is None:
        return SignatureCause.MISSING
    if claim.disagrees:
        return SignatureCause.FAMILIES_DISAGREE
    if not signature:
        return SignatureCause.NOT_HEX
    return SignatureCause.TOO_LARGE if len(body) > _LARGEST else None


def _search(signature: str, body: bytes, credentials: Credentials, other_text: str | None) -> SignatureExplanation:
    for cause, text in _texts(body, other_text):
        secret_index = credentials.verify(text, signature)
        if secret_index is not None:
            return _explained(cause, secret_index)
    for secret_index, secret in enumerate(credentials.secrets):
        if any(_is(signature, hmac.digest(key, body, "sha256")) for key in _keys(secret)):
            return _explained(SignatureCause.SECRET_FORM, secret_index)
        if _is(signature, hashlib.sha256(body + secret.encode()).digest()):
            return _explained(SignatureCause.PLAIN_HASH, secret_index)
    return _explained(SignatureCause.UNKNOWN if body else SignatureCause.EMPTY_BODY)


def _texts(body: bytes, other_text: str | None) -> Iterator[tuple[SignatureCause, bytes]]:
    """Give what may have been signed, the likeliest first."""
    yield SignatureCause.MATCHES, body
    if other_text is not None:
        text = other_text.encode(errors="replace")
        yield SignatureCause.OTHER_TEXT, text
        yield SignatureCause.OTHER_TEXT, text + b"\n" + body
    yield SignatureCause.EMPTY_BODY, b""
    yield from ((SignatureCause.BASE64_BODY, text) for text in _decoded(body))
    stripped = body.strip()
    for end in (b"", b"\n", b"\r\n", b" "):
        yield SignatureCause.TRAILING_NEWLINE, stripped + end
        yield SignatureCause.TRAILING_NEWLINE, body + end
    unix = body.replace(b"\r\n", b"\n")
    yield SignatureCause.LINE_ENDS, unix
    yield SignatureCause.LINE_ENDS, unix.replace(b"\n", b"\r\n")
    yield SignatureCause.BYTE_ORDER_MARK, body.removeprefix(_BOM)
    yield SignatureCause.BYTE_ORDER_MARK, _BOM + body
    yield from ((SignatureCause.CHARSET, text) for text in _charsets(body))
    yield from ((SignatureCause.RESERIALISED, text) for text in _written_again(body))


def _decoded(body: bytes) -> Iterator[bytes]:
    """Give what a body in base64 holds, with either alphabet, with or without padding, quotes and line ends."""
    text = b"".join(body.split()).strip(b'"').rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if text:
        try:
            yield b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except ValueError:
            return


def _charsets(body: bytes) -> Iterator[bytes]:
    for read_as, written_as in (
        ("utf-8", "latin-1"),
        ("utf-8", "cp1252"),
        ("utf-8", "utf-16"),
        ("utf-8", "utf-16-le"),
        ("latin-1", "utf-8"),
        ("cp1252", "utf-8"),
        ("utf-16", "utf-8"),
    ):
        try:
            yield body.decode(read_as).encode(written_as)
        except UnicodeError:
            continue
    yield body.decode("utf-8", errors="replace").encode()
    yield body.decode("ascii", errors="ignore").encode()


def _written_again(body: bytes) -> Iterator[bytes]:
    try:
        value: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        return
    for separators in ((",", ":"), (", ", ": ")):
        for plain in (True, False):
            for in_order in (False, True):
                text = _dumped(value, separators, plain=plain, in_order=in_order)
                yield text
                # As PHP and others write every slash.
                yield text.replace(b"/", rb"\/")
    for indent in (2, 4):
        yield json.dumps(value, indent=indent, ensure_ascii=False).encode(errors="replace")


def _dumped(value: object, separators: tuple[str, str], *, plain: bool, in_order: bool) -> bytes:
    text = json.dumps(value, separators=separators, ensure_ascii=not plain, sort_keys=in_order)
    return text.encode(errors="replace")


def _keys(secret: str) -> Iterator[bytes]:
    """Give what a secret is mistaken for."""
    bare = secret.replace("-", "")
    yield from (bare.encode(), f"{secret}\n".encode(), f" {secret}".encode(), secret.upper().encode())
    yield from (secret.lower().encode(), f'"{secret}"'.encode())
    for decode in (bytes.fromhex, b64decode):
        for text in (bare, secret):
            try:
                yield decode(text)
            except ValueError:
                continue


def _is(signature: str, digest: bytes) -> bool:
    return hmac.compare_digest(signature, digest.hex())


def _from_base64(text: str) -> str:
    try:
        digest = b64decode(text, validate=True)
    except ValueError:
        return ""
    return digest.hex() if len(digest) == _DIGEST else ""


def _explained(cause: SignatureCause, secret_index: int | None = None) -> SignatureExplanation:
    return SignatureExplanation(cause, _ADVICE[cause], secret_index)
