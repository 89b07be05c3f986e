"""Diagnosis of signatures that do not match: tries the common mistakes of receivers one by one.

It is meant for debugging, not for every message, because it hashes the body about a hundred times.
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
from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async._protocol.request_arguments import as_bytes, check_credentials
from veriff_async._protocol.signing import is_signature
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from veriff_async._protocol.authenticity import AuthHeaders
    from veriff_async.credentials import Credentials

__all__ = ("SignatureCause", "SignatureExplanation", "explain_signature")

# A diagnosis hashes the body about a hundred times, so larger bodies are not tried.
_MAX_BODY: Final = 1024 * 1024
_DIGEST_SIZE: Final = 32
_BOM: Final = b"\xef\xbb\xbf"


class SignatureCause(Enum):
    """The cause of a signature that does not match."""

    MATCHES = "it matches"
    MISSING = "the signature or the API key is missing"
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
    RESERIALISED = "the body was parsed and serialised again"
    OTHER_TEXT = "another text was signed"
    SECRET_FORM = "the secret was changed before use"  # noqa: S105  no secret
    PLAIN_HASH = "a hash without HMAC"
    LEGACY_HEADER = "only the older X-SIGNATURE header"
    TOO_LARGE = "too large to try"
    UNKNOWN = "none of the known mistakes"


@frozen
class SignatureExplanation:
    """The cause and a remedy, without any secret, body or signature.

    Attributes:
        cause: The cause.
        advice: One sentence with the remedy.
        secret_index: The index of the secret that explains the signature, in `Credentials.secrets`.
    """

    cause: SignatureCause
    advice: str
    secret_index: int | None = None

    @property
    def matches(self) -> bool:
        """Whether the signature is valid."""
        return self.cause is SignatureCause.MATCHES


_ADVICE: Final[dict[SignatureCause, str]] = {
    SignatureCause.MATCHES: "The signature is right.",
    SignatureCause.MISSING: "Look for a proxy that drops the X-AUTH-CLIENT or X-HMAC-SIGNATURE header.",
    SignatureCause.FAMILIES_DISAGREE: "One of the headers was changed on the way: Veriff sends the same value in both.",
    SignatureCause.FOREIGN_CLIENT: (
        "The message is for the integration with another API key: use that integration's credentials."
    ),
    SignatureCause.FOREIGN_INTEGRATION: (
        "The message is for another integration of the same API key: use that integration's secrets."
    ),
    SignatureCause.NOT_HEX: "A signature has 64 hex digits: check what changed or truncated the header.",
    SignatureCause.BASE64: "The digest is right, but in base64: write it in hex.",
    SignatureCause.EMPTY_BODY: "The body is empty: read the raw body before your framework does, and only once.",
    SignatureCause.BASE64_BODY: (
        "The body is still in base64: decode it first, as AWS Lambda says with isBase64Encoded, and verify the bytes."
    ),
    SignatureCause.TRAILING_NEWLINE: "White space was added or cut at an end of the body: take the raw bytes.",
    SignatureCause.LINE_ENDS: "Line ends were changed: take the raw bytes, not text.",
    SignatureCause.BYTE_ORDER_MARK: "A byte order mark was added or cut: take the raw bytes, not text.",
    SignatureCause.CHARSET: "The body was decoded and encoded in another charset: take the raw bytes, not text.",
    SignatureCause.RESERIALISED: (
        "The body was parsed and serialised again as JSON: take the raw bytes as received, before any parsing."
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
        "None of the secrets explains it: compare them with the API Keys page, and check which proxy changes the body."
    ),
}


def explain_signature(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, *, other_text: str | None = None
) -> SignatureExplanation:
    """Explain why the signature of a message does not match.

    It tries the most common mistakes: a body that was parsed and serialised again, a body that is still in base64,
    white space at its end, another charset, another key or integration, a secret that was decoded first, and the older
    X-SIGNATURE header in place of X-HMAC-SIGNATURE.

    Args:
        headers: The message's headers, names in any case.
        body: The body as you have it.
        credentials: The credentials of the expected sender.
        other_text: A text that may have been signed instead, for example the id or the path of a request.

    Returns:
        The cause with a remedy. It contains nothing secret or personal.

    Raises:
        InvalidArgumentError: An argument is of a wrong type; the message names the likely mistake.

    Example:
        >>> print(explain_signature(request.headers, body, credentials).advice)

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """
    body, credentials = as_bytes(body), check_credentials(credentials)
    if other_text is not None:
        check_text("other_text", other_text, error=InvalidArgumentError)
    auth = parse_auth_headers(headers)
    if auth.signature is None and auth.legacy is not None:
        return _explain_legacy(auth, body, credentials)
    sent = auth.signature or ""
    signature = sent.lower() if is_signature(sent) else _from_base64(sent)
    early_cause = _find_early_cause(auth, signature, body)
    if early_cause is not None:
        return _explanation(early_cause)
    explanation = _search(signature, body, credentials, other_text)
    if explanation.cause is SignatureCause.MATCHES and signature != sent.lower():
        explanation = _explanation(SignatureCause.BASE64, explanation.secret_index)
    if explanation.cause in {SignatureCause.MATCHES, SignatureCause.UNKNOWN}:
        # Another key has another secret, so nothing else explains a mismatch. Even a match is rejected then.
        if auth.names_other_key(credentials):
            return _explanation(SignatureCause.FOREIGN_CLIENT)
        if auth.names_other_integration(credentials):
            return _explanation(SignatureCause.FOREIGN_INTEGRATION)
    return explanation


def _explain_legacy(auth: AuthHeaders, body: bytes, credentials: Credentials) -> SignatureExplanation:
    """Explain a message that has only the older signature, and find the secret that made it."""
    if auth.api_key is not None and auth.names_other_key(credentials):
        return _explanation(SignatureCause.FOREIGN_CLIENT)
    signature = (auth.legacy or "").lower()
    hashes = [hashlib.sha256(body + secret.encode()).hexdigest() for secret in credentials.secrets]
    index = hashes.index(signature) if signature in hashes else None
    return _explanation(SignatureCause.LEGACY_HEADER, index)


def _find_early_cause(auth: AuthHeaders, signature: str, body: bytes) -> SignatureCause | None:
    """Return the cause if the headers alone show it."""
    if auth.signature is None or auth.api_key is None:
        return SignatureCause.MISSING
    if auth.disagrees:
        return SignatureCause.FAMILIES_DISAGREE
    if not signature:
        return SignatureCause.NOT_HEX
    return SignatureCause.TOO_LARGE if len(body) > _MAX_BODY else None


def _search(signature: str, body: bytes, credentials: Credentials, other_text: str | None) -> SignatureExplanation:
    for cause, text in _candidate_texts(body, other_text):
        secret_index = credentials.verify(text, signature)
        if secret_index is not None:
            return _explanation(cause, secret_index)
    for secret_index, secret in enumerate(credentials.secrets):
        if any(_matches(signature, hmac.digest(key, body, "sha256")) for key in _candidate_keys(secret)):
            return _explanation(SignatureCause.SECRET_FORM, secret_index)
        if _matches(signature, hashlib.sha256(body + secret.encode()).digest()):
            return _explanation(SignatureCause.PLAIN_HASH, secret_index)
    return _explanation(SignatureCause.UNKNOWN if body else SignatureCause.EMPTY_BODY)


def _candidate_texts(body: bytes, other_text: str | None) -> Iterator[tuple[SignatureCause, bytes]]:
    """Yield the texts that may have been signed, the most likely first."""
    yield SignatureCause.MATCHES, body
    if other_text is not None:
        text = other_text.encode(errors="replace")
        yield SignatureCause.OTHER_TEXT, text
        yield SignatureCause.OTHER_TEXT, text + b"\n" + body
    yield SignatureCause.EMPTY_BODY, b""
    yield from ((SignatureCause.BASE64_BODY, text) for text in _decode_base64(body))
    stripped = body.strip()
    for end in (b"", b"\n", b"\r\n", b" "):
        yield SignatureCause.TRAILING_NEWLINE, stripped + end
        yield SignatureCause.TRAILING_NEWLINE, body + end
    unix = body.replace(b"\r\n", b"\n")
    yield SignatureCause.LINE_ENDS, unix
    yield SignatureCause.LINE_ENDS, unix.replace(b"\n", b"\r\n")
    yield SignatureCause.BYTE_ORDER_MARK, body.removeprefix(_BOM)
    yield SignatureCause.BYTE_ORDER_MARK, _BOM + body
    yield from ((SignatureCause.CHARSET, text) for text in _recode(body))
    yield from ((SignatureCause.RESERIALISED, text) for text in _reserialise(body))


def _decode_base64(body: bytes) -> Iterator[bytes]:
    """Yield the content of a base64 body: with either alphabet, with or without padding, quotes and line ends."""
    text = b"".join(body.split()).strip(b'"').rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    if text:
        try:
            yield b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except ValueError:
            return


def _recode(body: bytes) -> Iterator[bytes]:
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


def _reserialise(body: bytes) -> Iterator[bytes]:
    try:
        value: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        return
    for separators in ((",", ":"), (", ", ": ")):
        for is_unicode in (True, False):
            for is_sorted in (False, True):
                text = _serialise(value, separators, is_unicode=is_unicode, is_sorted=is_sorted)
                yield text
                # PHP and others escape every slash.
                yield text.replace(b"/", rb"\/")
    for indent in (2, 4):
        yield json.dumps(value, indent=indent, ensure_ascii=False).encode(errors="replace")


def _serialise(value: object, separators: tuple[str, str], *, is_unicode: bool, is_sorted: bool) -> bytes:
    text = json.dumps(value, separators=separators, ensure_ascii=not is_unicode, sort_keys=is_sorted)
    return text.encode(errors="replace")


def _candidate_keys(secret: str) -> Iterator[bytes]:
    """Yield the keys that result from common mistakes with a secret."""
    bare = secret.replace("-", "")
    yield from (bare.encode(), f"{secret}\n".encode(), f" {secret}".encode(), secret.upper().encode())
    yield from (secret.lower().encode(), f'"{secret}"'.encode())
    for decode in (bytes.fromhex, b64decode):
        for text in (bare, secret):
            try:
                yield decode(text)
            except ValueError:
                continue


def _matches(signature: str, digest: bytes) -> bool:
    return hmac.compare_digest(signature, digest.hex())


def _from_base64(text: str) -> str:
    try:
        digest = b64decode(text, validate=True)
    except ValueError:
        return ""
    return digest.hex() if len(digest) == _DIGEST_SIZE else ""


def _explanation(cause: SignatureCause, secret_index: int | None = None) -> SignatureExplanation:
    return SignatureExplanation(cause, _ADVICE[cause], secret_index)
