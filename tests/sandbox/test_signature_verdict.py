"""The explanation of a refused signature, for any request."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings, strategies as st

from veriff_async import Credentials
from veriff_async.sandbox._signature_verdict import MAX_EXPLAINED_BYTES, RefusedRequest, explain_refusal
from veriff_async.webhooks import SignatureCause

CREDENTIALS: Final = Credentials("6ad63adf-21a8-4748-9257-f15f01e2a930", "abcdef12-abcd-abcd-abcd-abcdef012345")
NAMES: Final = ("X-AUTH-CLIENT", "x-hmac-signature", "VRF-AUTH-CLIENT", "VRF-HMAC-SIGNATURE", "X-SIGNATURE", "Accept")
BODY: Final = b'{"verification":{"person":{"firstName":"Ada"}}}'


def explain(signature: str, body: bytes | None = BODY, *, key: str = CREDENTIALS.api_key) -> SignatureCause | None:
    """Return the cause for a request with a body."""
    request = RefusedRequest(
        headers={"X-AUTH-CLIENT": key, "X-HMAC-SIGNATURE": signature},
        signed=body,
        expected="the raw body",
        others={"the path": b"/v1/sessions"},
        refusal="HMAC signature does not match",
    )
    return explain_refusal(request, CREDENTIALS).cause


@settings(max_examples=30, deadline=None)
@given(
    headers=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=80) | st.from_regex(r"[0-9a-fA-F]{64}")),
    signed=st.none() | st.binary(max_size=80) | st.just(b"[" * 5000) | st.just(b"1" * 5000) | st.just(b'"\\ud800"'),
    other=st.binary(max_size=20),
)
def test_any_request_is_explained(headers: dict[str, str], signed: bytes | None, other: bytes) -> None:
    """An explanation never fails, contains no value from the request, and always has a remedy."""
    request = RefusedRequest(headers=headers, signed=signed, expected="it", others={"x": other}, refusal="No")

    verdict = explain_refusal(request, CREDENTIALS)

    assert verdict.result in {"missing", "wrong"}
    assert verdict.cause is not None
    assert verdict.advice.endswith(".")
    assert CREDENTIALS.shared_secret not in repr(verdict)
    for value in headers.values():
        assert len(value) < 20 or value not in repr(verdict)


@pytest.mark.parametrize(
    ("signature", "cause"),
    [
        (CREDENTIALS.sign(BODY.replace(b":", b": ")), SignatureCause.RESERIALISED),
        (CREDENTIALS.sign(b"/v1/sessions"), SignatureCause.OTHER_TEXT),
        (Credentials("k", CREDENTIALS.shared_secret.upper()).sign(BODY), SignatureCause.SECRET_FORM),
        ("0" * 64, SignatureCause.UNKNOWN),
        ("0" * 63, SignatureCause.NOT_HEX),
    ],
)
def test_mistake_is_named(signature: str, cause: SignatureCause) -> None:
    """Each common mistake has its cause."""
    assert cause is explain(signature)


def test_other_key_comes_before_a_wrong_signature() -> None:
    """Another key has another secret, so the signature needs no explanation."""
    assert SignatureCause.FOREIGN_CLIENT is explain("0" * 64, key="another")


@pytest.mark.parametrize("body", [None, bytes(MAX_EXPLAINED_BYTES + 1)])
def test_body_that_is_not_kept_is_not_searched(body: bytes | None) -> None:
    """Without the body, a wrong signature may have any cause."""
    assert SignatureCause.TOO_LARGE is explain("0" * 64, body)
