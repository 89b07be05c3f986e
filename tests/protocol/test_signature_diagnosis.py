"""Explanations recognise each mistake that receivers make, name its remedy, and contain no secret."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from veriff_async import Credentials, SignatureError, explain_signature, verify_webhook
from veriff_async.webhooks import SignatureCause, SignatureExplanation

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET: Final = "abcdef12-abcd-abcd-abcd-abcdef012345"
RING: Final = Credentials("key", SECRET, previous_secrets=["older"], integration_id="ours")
SENT: Final = '{"status":"success","url":"a/b","verification":{"vendorData":"José ✓","id":"1"}}'.encode()
VALUE: Final = json.loads(SENT)
ID: Final = "f04bdb47-d3be-4b28-b028-a652feb060b5"


def explain(body: bytes, signature: str, *, other_text: str | None = None, **headers: str) -> SignatureExplanation:
    """Explain a message of our key."""
    found = {"X-AUTH-CLIENT": "key", "X-HMAC-SIGNATURE": signature, **headers}
    return explain_signature(found, body, RING, other_text=other_text)


@pytest.mark.parametrize(
    ("received", "cause"),
    [
        (SENT, SignatureCause.MATCHES),
        (SENT + b"\n", SignatureCause.TRAILING_NEWLINE),
        (SENT + b"\r\n", SignatureCause.TRAILING_NEWLINE),
        (b" " + SENT, SignatureCause.TRAILING_NEWLINE),
        (b"\xef\xbb\xbf" + SENT, SignatureCause.BYTE_ORDER_MARK),
        (SENT.decode().encode("utf-16"), SignatureCause.CHARSET),
        (SENT.decode("latin-1").encode(), SignatureCause.CHARSET),
        (json.dumps(VALUE).encode(), SignatureCause.RESERIALISED),
        (json.dumps(VALUE, ensure_ascii=False, indent=2).encode(), SignatureCause.RESERIALISED),
        (json.dumps(VALUE, separators=(",", ":")).encode(), SignatureCause.RESERIALISED),
        (SENT.replace(b"/", rb"\/"), SignatureCause.RESERIALISED),
        (b"", SignatureCause.EMPTY_BODY),
        (SENT.replace(b"success", b"failure"), SignatureCause.UNKNOWN),
        (b"x" * 2_000_000, SignatureCause.TOO_LARGE),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_changed_body_is_recognised(received: bytes, cause: SignatureCause, place: int) -> None:
    """The explanation names the change to the body, and the index of the secret that confirms it."""
    found = explain(received, RING.with_signing_secret(place).sign(SENT))

    assert cause is found.cause
    assert found.matches is (cause is SignatureCause.MATCHES)
    assert found.secret_index in {place, None}


def test_line_ends_are_recognised() -> None:
    """The explanation recognises changed line ends, which text modes cause."""
    sent = json.dumps(VALUE, indent=2).encode()

    assert SignatureCause.LINE_ENDS is explain(sent.replace(b"\n", b"\r\n"), RING.sign(sent)).cause


def test_sorted_original_is_recognised() -> None:
    """The explanation recognises also a signed body with sorted members and a received body without."""
    signed = json.dumps(VALUE, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    assert SignatureCause.RESERIALISED is explain(SENT, RING.sign(signed)).cause


@pytest.mark.parametrize(
    "key",
    [
        SECRET.replace("-", "").encode(),
        bytes.fromhex(SECRET.replace("-", "")),
        f"{SECRET}\n".encode(),
        SECRET.upper().encode(),
        f'"{SECRET}"'.encode(),
    ],
)
def test_changed_secret_is_recognised(key: bytes) -> None:
    """The explanation recognises each way to decode or cut a secret before use."""
    assert SignatureCause.SECRET_FORM is explain(SENT, hmac.new(key, SENT, "sha256").hexdigest()).cause


def test_legacy_hash_is_recognised() -> None:
    """The explanation recognises the older signature, a plain hash of body and secret."""
    assert SignatureCause.PLAIN_HASH is explain(SENT, hashlib.sha256(SENT + SECRET.encode()).hexdigest()).cause


@pytest.mark.parametrize(
    "encode", [b64encode, urlsafe_b64encode, encodebytes, lambda body: b64encode(body).rstrip(b"=")]
)
@pytest.mark.parametrize("sent", [SENT, SENT + b"?>", b"\xfb\xff"])
def test_base64_body_is_recognised(sent: bytes, encode: Callable[[bytes], bytes]) -> None:
    """A body that a gateway passed on in base64, in any of its forms, is recognised with the secret that signed it."""
    found = explain(encode(sent), RING.with_signing_secret(1).sign(sent))

    assert (SignatureCause.BASE64_BODY, 1) == (found.cause, found.secret_index)
    assert "isBase64Encoded" in found.advice


@pytest.mark.parametrize("secret", ["older", SECRET])
def test_legacy_header_alone_is_recognised(secret: str) -> None:
    """A message with X-SIGNATURE alone is explained by that header, with the secret that made it, if any."""
    legacy = hashlib.sha256(SENT + secret.encode()).hexdigest()
    headers = {"X-Auth-Client": "key", "X-SIGNATURE": legacy.upper()}

    assert (SignatureCause.LEGACY_HEADER, RING.secrets.index(secret)) == (
        (found := explain_signature(headers, SENT, RING)).cause,
        found.secret_index,
    )
    assert SignatureCause.LEGACY_HEADER is explain_signature({**headers, "X-SIGNATURE": "?"}, SENT, RING).cause
    assert SignatureCause.FOREIGN_CLIENT is explain_signature({**headers, "X-Auth-Client": "b"}, SENT, RING).cause
    with pytest.raises(SignatureError, match="only the older X-SIGNATURE") as refused:
        verify_webhook(headers, SENT, RING)
    assert "missing" == refused.value.reason


def test_legacy_header_is_ignored_when_the_newer_one_is_present() -> None:
    """A webhook that carries both signatures, as one of 2023 did, is judged by the HMAC alone."""
    assert explain(SENT, RING.sign(SENT), **{"X-SIGNATURE": "0" * 64}).matches
    assert SignatureCause.UNKNOWN is explain(SENT, "0" * 64, **{"X-SIGNATURE": "0" * 64}).cause


@pytest.mark.parametrize("signed", [ID.encode(), ID.encode() + b"\n" + SENT])
def test_other_signed_text_is_recognised(signed: bytes) -> None:
    """An id or path that was signed instead of the body, or before it, is recognised if the caller passes it."""
    assert SignatureCause.OTHER_TEXT is explain(SENT, RING.sign(signed), other_text=ID).cause
    assert SignatureCause.UNKNOWN is explain(SENT, RING.sign(signed)).cause


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ({}, SignatureCause.MISSING),
        ({"x-auth-client": "key"}, SignatureCause.MISSING),
        ({"x-auth-client": "key", "x-hmac-signature": "abc"}, SignatureCause.NOT_HEX),
        ({"x-auth-client": "key", "x-hmac-signature": RING.sign(SENT).upper()}, SignatureCause.MATCHES),
        ({"x-auth-client": "other", "x-hmac-signature": "0" * 64}, SignatureCause.FOREIGN_CLIENT),
        ({"x-auth-client": "other", "x-hmac-signature": RING.sign(SENT)}, SignatureCause.FOREIGN_CLIENT),
        (
            {"x-auth-client": "key", "x-hmac-signature": "0" * 64, "vrf-integration-id": "theirs"},
            SignatureCause.FOREIGN_INTEGRATION,
        ),
        (
            {"x-auth-client": "key", "x-hmac-signature": "0" * 64, "vrf-hmac-signature": "1" * 64},
            SignatureCause.FAMILIES_DISAGREE,
        ),
        (
            {"x-auth-client": "key", "x-hmac-signature": b64encode(bytes.fromhex(RING.sign(SENT))).decode()},
            SignatureCause.BASE64,
        ),
    ],
)
def test_headers_are_checked_first(headers: dict[str, str], cause: SignatureCause) -> None:
    """Causes that the headers show come before those of the body, and a foreign key comes first."""
    assert cause is explain_signature(headers, SENT, RING).cause


@given(body=st.binary(max_size=300), client=st.text(max_size=5), signature=st.text(max_size=80), text=st.text())
def test_any_message_is_explained_without_showing_it(body: bytes, client: str, signature: str, text: str) -> None:
    """Any message is explained, never raises, and nothing of it or of the secrets stands in what is shown."""
    headers = {"x-auth-client": client, "x-hmac-signature": signature}

    found = explain_signature(headers, body, RING, other_text=text)

    assert found.advice.endswith(".")
    for secret in RING.secrets:
        assert secret not in repr(found)
