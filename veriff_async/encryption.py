"""Encryption at rest: a ring of keys for what inboxes and journals store."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, Self

from veriff_async._protocol.arguments import type_name
from veriff_async._protocol.counts import format_count
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ("DecryptionError", "KeyRing", "is_encrypted")

_VARIABLE: Final = "VERIFF_STORE_KEYS"

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_ID_BYTES: Final = 4

# No JSON begins with this byte, so a store can distinguish what it has encrypted from what it wrote before it had keys.
_MARK: Final = b"\x01"
_HEADER_BYTES: Final = len(_MARK) + _ID_BYTES + _NONCE_BYTES


class DecryptionError(Exception):
    """A stored text cannot be decrypted; stores raise an error of their own for it. Its text names no secret."""


class KeyRing:
    """Keys of 256 bits for AES-GCM: the first one encrypts, and all of them decrypt.

    To rotate, add a new key at the end of the ring in every process, and only then put it first, so that each process
    can read what another one has encrypted with it. Remove an old key when everything that it has encrypted was
    deleted, or written again by ``reencrypt``. If sessions were erased, wait for 30 days more: the marks that refuse
    their late webhooks cannot be written again. Without its key a text is lost: keep the keys where you keep other
    secrets, and not next to the data.

    Each text is bound to its place in the store, so that it cannot be moved to another session. Stores find a
    text by values that stay readable: ids of sessions and jobs, kinds, times, and keyed digests for searches.

    Args:
        keys: The keys: 32 bytes each, or their base64 text as `generate_key` returns it.

    Raises:
        ConfigurationError: A key has another form, one occurs twice, there is none, or ``cryptography`` is not
            installed (the extra ``encryption``).

    Example:
        >>> ring = KeyRing.from_env()  # VERIFF_STORE_KEYS=newest,older
        >>> inbox = SqliteInbox("inbox.db", encryption=ring)

    See https://csrc.nist.gov/pubs/sp/800/38/d/final.
    """

    def __init__(self, keys: Sequence[bytes | str]) -> None:
        """Check the keys."""
        if not _is_list(keys) or not keys:
            msg = f"keys must be a list with one key or more, not {type_name(keys)}: pass [KeyRing.generate_key()]."
            raise ConfigurationError(msg)
        secrets = [_to_key(key) for key in keys]
        cipher = _import_cipher()
        self._ciphers: dict[bytes, AESGCM] = {_id_of(secret): cipher(secret) for secret in secrets}
        if len(self._ciphers) < len(secrets):
            msg = "A key occurs twice in the ring: leave one of them out."
            raise ConfigurationError(msg)
        self._primary = _id_of(secrets[0])
        self.search_secrets: tuple[bytes, ...] = tuple(
            hmac.digest(secret, b"veriff-async search", "sha256") for secret in secrets
        )
        """The secrets of keys of search, the first one for new keys, and all of them to find earlier ones."""

    def __repr__(self) -> str:
        """Show how many keys there are, and nothing of them."""
        return f"<KeyRing of {format_count(len(self._ciphers), 'key')}>"

    @staticmethod
    def generate_key() -> str:
        """Return a new random key as base64 text."""
        return base64.urlsafe_b64encode(token_bytes(_KEY_BYTES)).decode()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, name: str = _VARIABLE) -> Self:
        """Return the ring of an environment variable: keys as base64, separated by commas, the newest first.

        Args:
            environ: The environment; by default, that of the process.
            name: The variable.

        Raises:
            ConfigurationError: It is not set, or a key has another form.
        """
        text = (os.environ if environ is None else environ).get(name, "").strip()
        if not text:
            msg = f"{name} is not set: set it to a key that KeyRing.generate_key() returns."
            raise ConfigurationError(msg)
        return cls([part.strip() for part in text.split(",")])

    def encrypt(self, text: bytes, place: bytes) -> bytes:
        """Encrypt a text for a place in a store.

        Args:
            text: The text.
            place: An identifier of the place, for example the kind of store and the session. It is not stored.
        """
        nonce = token_bytes(_NONCE_BYTES)
        return _MARK + self._primary + nonce + self._ciphers[self._primary].encrypt(nonce, text, place)

    def decrypt(self, data: bytes, place: bytes) -> bytes:
        """Decrypt what `encrypt` returned for the same place.

        Raises:
            DecryptionError: The ring lacks its key, or the text was changed or moved.
        """
        cipher = self._ciphers.get(data[len(_MARK) : len(_MARK) + _ID_BYTES])
        if cipher is None:
            msg = "the ring lacks its key: add that key to the ring"
            raise DecryptionError(msg)
        nonce = data[_HEADER_BYTES - _NONCE_BYTES : _HEADER_BYTES]
        try:
            return cipher.decrypt(nonce, data[_HEADER_BYTES:], place)
        except Exception:  # noqa: BLE001  cryptography's InvalidTag, or a ValueError for a nonce that is cut off
            msg = "it was changed, or moved from another place: restore it from a backup"
        raise DecryptionError(msg)

    def has_key_of(self, data: bytes) -> bool:
        """Return whether the ring has the key of an encrypted text."""
        return data[len(_MARK) : len(_MARK) + _ID_BYTES] in self._ciphers

    def is_current(self, data: bytes) -> bool:
        """Return whether a text is encrypted with the first key."""
        return data[: len(_MARK) + _ID_BYTES] == _MARK + self._primary


def is_encrypted(data: bytes) -> bool:
    """Return whether a stored text is encrypted."""
    return data[:1] == _MARK


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _to_key(key: object) -> bytes:
    secret = key
    if isinstance(key, str):
        try:
            secret = base64.b64decode(key.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            secret = None
    if isinstance(secret, bytes) and len(secret) == _KEY_BYTES:
        return secret
    msg = f"A key of the ring is not {_KEY_BYTES} bytes or their base64: make one with KeyRing.generate_key()."
    raise ConfigurationError(msg)


def _id_of(secret: bytes) -> bytes:
    return sha256(b"veriff-async key\0" + secret).digest()[:_ID_BYTES]


def _import_cipher() -> type[AESGCM]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        msg = "Encryption needs the package cryptography: pip install 'veriff-async[encryption]'."
    else:
        return AESGCM
    raise ConfigurationError(msg)
