"""Keys of encrypted stores: their form, rotation, and texts that were changed, moved, or encrypted by other keys."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, strategies as st

from veriff_async import ConfigurationError, InboxError
from veriff_async._storage.encrypted_text import TextCodec
from veriff_async.encryption import DecryptionError, KeyRing, is_encrypted

TEXT = b'{"verification":{"person":{"lastName":"Zyxwvut"}}}'
PLACE = b"place"


@given(st.binary(), st.binary())
def test_text_comes_back(text: bytes, place: bytes) -> None:
    """A text is encrypted so that it cannot be read, and the same ring and place give it back."""
    ring = KeyRing([KeyRing.generate_key()])
    data = ring.encrypt(text, place)
    assert is_encrypted(data)
    assert len(text) < 8 or text not in data
    assert ring.decrypt(data, place) == text


def test_equal_texts_are_encrypted_differently() -> None:
    """A reader of the store cannot see that two texts are equal."""
    ring = KeyRing([bytes(32)])
    assert ring.encrypt(TEXT, PLACE) != ring.encrypt(TEXT, PLACE)


def test_rotation_reads_what_older_keys_have_encrypted() -> None:
    """The first key encrypts, every key decrypts, and a ring knows what it must encrypt again."""
    old, new = KeyRing.generate_key(), KeyRing.generate_key()
    before, after = KeyRing([old]), KeyRing([new, old])
    data = before.encrypt(TEXT, PLACE)

    assert after.decrypt(data, PLACE) == TEXT
    assert not after.is_current(data)
    assert after.is_current(after.encrypt(TEXT, PLACE))
    assert before.search_secrets[0] in after.search_secrets[1:]
    with pytest.raises(DecryptionError, match="add that key"):
        before.decrypt(after.encrypt(TEXT, PLACE), PLACE)


@given(st.data())
def test_changed_text_is_refused(data: st.DataObject) -> None:
    """A text with one changed byte, a text that is cut off, and one from another place cannot be decrypted."""
    ring = KeyRing([bytes(32)])
    encrypted = bytearray(ring.encrypt(TEXT, PLACE))
    index = data.draw(st.integers(1, len(encrypted) - 1))
    changed = bytes(encrypted[:index]) + bytes([encrypted[index] ^ data.draw(st.integers(1, 255))])
    for wrong in (changed + bytes(encrypted[index + 1 :]), bytes(encrypted[:index])):
        with pytest.raises(DecryptionError):
            ring.decrypt(wrong, PLACE)
    with pytest.raises(DecryptionError):
        ring.decrypt(bytes(encrypted), b"another place")


@pytest.mark.parametrize(
    "keys",
    [[], "a" * 44, [b"short"], ["not base64!"], ["ä" * 44], [bytes(32), bytes(32)], [3], None, ["A" * 40]],
)
def test_wrong_keys_are_refused(keys: object) -> None:
    """A wrong key is a `ConfigurationError` that does not show it."""
    with pytest.raises(ConfigurationError) as caught:
        KeyRing(keys)  # type: ignore[arg-type]
    assert "not base64" not in str(caught.value)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package a ring is a `ConfigurationError` that says how to install it."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'veriff-async\[encryption\]'"):
        KeyRing([bytes(32)])


def test_ring_comes_from_the_environment() -> None:
    """The variable holds keys, separated by commas; no text of a ring shows a key."""
    first, second = KeyRing.generate_key(), KeyRing.generate_key()
    ring = KeyRing.from_env({"VERIFF_STORE_KEYS": f" {first} , {second}"})
    assert ring.decrypt(KeyRing([second]).encrypt(TEXT, PLACE), PLACE) == TEXT
    assert first not in repr(ring)
    with pytest.raises(ConfigurationError, match="VERIFF_STORE_KEYS is not set"):
        KeyRing.from_env({})


def test_store_reads_texts_from_before_it_had_keys() -> None:
    """A store that gets a ring reads its old texts, and one that loses its ring says what is missing."""
    plain = TextCodec(None, error=InboxError, owner="inbox")
    secret = TextCodec(KeyRing([bytes(32)]), error=InboxError, owner="inbox")
    assert secret.decode(plain.encode(TEXT, "event", "s"), "event", "s") == TEXT
    assert not secret.is_current(TEXT)
    assert plain.is_current(TEXT)
    data = secret.encode(TEXT, "event", "s")
    assert secret.is_current(data)
    assert not plain.is_current(data)
    with pytest.raises(InboxError, match="pass encryption="):
        plain.decode(data, "event", "s")
    for place in (("event", "t"), ("events", ""), ("state", "s")):
        with pytest.raises(InboxError, match="moved from another place"):
            secret.decode(data, *place)


def test_store_refuses_other_types() -> None:
    """A key instead of a ring is a `ConfigurationError`."""
    with pytest.raises(ConfigurationError):
        TextCodec(KeyRing.generate_key(), error=InboxError, owner="inbox")
