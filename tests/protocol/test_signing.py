"""Signatures: the published vectors, pieces, rings, and everything that is no signature."""

from __future__ import annotations

import hmac
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from veriff_async import ConfigurationError, Credentials
from veriff_async._protocol.signing import Signer, Verifier, is_signature, sign, verify

KEY = "abcdef12-abcd-abcd-abcd-abcdef012345"
_SESSION = (
    '{"verification":{"callback":"https://veriff.com","person":{"firstName":"John","lastName":"Smith"},'
    '"document":{"type":"PASSPORT","country":"EE"},"vendorData":"%s","timestamp":"2016-05-19T08:30:25.597Z"}}'
)
# a, b and c are published (brokeyourbike/veriff-api-client-go, GENERALBYTESCOM/batm_public); the others were computed.
VECTORS = {
    "a": (_SESSION % "unique id of the end-user", "0dcab73ddd20062616d104231c7439657546a5c24e4691977da93bb854c31e25"),
    "b": (_SESSION % "unique id of a user", "6af6d95822e19e9cc707aec55395d8d363ba2c7bc4625bc04ebeca0c7bf8cd67"),
    "c": (
        "aea9ba6d-1b47-47fc-a4fc-f72b6d3584a7",
        "895cb3fd31139d89aeb7b263682e15479ab57651e70591256ad2c14fde4950dd",
    ),
    "d": (
        (
            '{"id":"f04bdb47-d3be-4b28-b028-a652feb060b5","attemptId":"e30122d1-740b-4764-853f-470374a7abf4",'
            '"feature":"selfid","code":7002,"action":"submitted","vendorData":"QWE123","endUserId":null}'
        ),
        "e9f29c8eb89d3de57e9812ef3838d8f5071788a8a3b4d4073b92c246e64d41cc",
    ),
    "e": (
        '{"status":"success","verification":{"vendorData":"José ✓"}}',
        "adc7b954f9496348e95a1f4b7e9027979f2dfcd13f83634847d48373bde33105",
    ),
    "f": ("/v1/feedback/fraud-categories", "987508e74ee08cd2fa17bead496b22090f1a4ff9a8fcdb6ea0a207489d07b2c7"),
    "g": ("", "4005304bae46f8a0c2b1fbd7088f9dded39dc1040be754dede2bf198ab44b7c8"),
}
vectors = pytest.mark.parametrize(("text", "signature"), VECTORS.values(), ids=VECTORS)


@vectors
def test_signs_the_vectors(text: str, signature: str) -> None:
    """Every vector gets its signature, in lower case."""
    assert signature == sign(KEY, text.encode())


@vectors
def test_verifies_the_vectors_in_any_case(text: str, signature: str) -> None:
    """A signature is recognised in lower, upper and mixed case."""
    found = [verify(text.encode(), form, [KEY]) for form in (signature, signature.upper(), signature.title())]

    assert [0, 0, 0] == found


@given(payload=st.binary(max_size=5000), cuts=st.lists(st.integers(0, 5000)))
def test_chunks_sign_like_the_whole_payload(payload: bytes, cuts: list[int]) -> None:
    """However a payload is cut, its signature is that of the whole."""
    signer = Signer(KEY)
    ends = sorted({0, *(cut for cut in cuts if cut < len(payload)), len(payload)})
    for start, end in pairwise(ends):
        signer.update(payload[start:end])

    assert sign(KEY, payload) == signer.hexdigest()


@given(key=st.text(min_size=1, max_size=100), payload=st.binary(max_size=200), is_long=st.booleans())
def test_payloads_of_any_length_are_signed_with_hmac(key: str, payload: bytes, is_long: bool) -> None:  # noqa: FBT001
    """Keys beyond one block of SHA-256 are hashed first, and both ways to sign are the HMAC of the standard library."""
    whole = payload * 200 if is_long else payload
    assert hmac.new(key.encode(), whole, "sha256").hexdigest() == sign(key, whole) == sign(key, memoryview(whole))


@given(payload=st.binary(), ring=st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True), data=st.data())
def test_match_returns_the_index_of_the_signing_secret(payload: bytes, ring: list[str], data: st.DataObject) -> None:
    """A ring of secrets answers with the place of the one that signed."""
    place = data.draw(st.integers(0, len(ring) - 1))

    assert place == verify(payload, sign(ring[place], payload), ring)


@given(payload=st.binary(), text=st.text())
def test_other_texts_match_nothing(payload: bytes, text: str) -> None:
    """Any text other than the signature matches no secret and raises no error."""
    assert None is verify(payload, text, [KEY])


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 63 + "\n", "\u0660" * 64, " " + "0" * 63])
def test_malformed_signatures_are_detected(text: str) -> None:
    """Only 64 ASCII hex digits have the form of a signature."""
    assert not is_signature(text)


def test_empty_secrets_are_rejected() -> None:
    """An empty secret, with which anyone could sign, is rejected immediately."""
    with pytest.raises(ConfigurationError, match="secret is empty"):
        Signer("")
    with pytest.raises(ConfigurationError, match="list of shared secrets is empty"):
        Verifier([])
    with pytest.raises(ConfigurationError, match="shared secret is empty"):
        Credentials("key", "")
    with pytest.raises(ConfigurationError, match="previous secret is empty"):
        Credentials("key", "secret", previous_secrets=[""])


def test_payloads_that_are_not_bytes_are_rejected() -> None:
    """A text, and memory that cannot be read in one piece, are errors that name the type and the remedy."""
    for wrong in ("text", None, 5):
        with pytest.raises(ConfigurationError, match="must be bytes, not"):
            sign("secret", wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="must be bytes, not"):
            Signer("secret").update(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not memoryview"):
        Verifier(["secret"]).update(memoryview(b"abcd")[::2])
    with pytest.raises(ConfigurationError, match="secret is empty"):
        sign("", b"payload")
    with pytest.raises(ConfigurationError, match="list of shared secrets is empty"):
        verify(b"payload", "0" * 64, [])
