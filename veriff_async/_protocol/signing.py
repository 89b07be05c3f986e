"""HMAC-SHA256 signatures as Veriff uses them: sign whole payloads or chunks, verify against several secrets.

The key is the shared secret as UTF-8 text. A signature has 64 hex digits: lower case when written, any case when read
(https://devdocs.veriff.com/apidocs/veriff-public-api-guides).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final

from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

__all__ = ("Signer", "Verifier", "is_signature", "sign", "verify")

_HEX: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

# A payload of up to this many bytes is signed in one piece with its key.
_SHORT: Final = 16_384

# RFC 2104: the bytes of a block of SHA-256, and of the key with each byte XORed with the constants ipad and opad.
_BLOCK: Final = 64
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))


class Signer:
    """Signs a payload that arrives in chunks."""

    __slots__ = ("_mac",)

    def __init__(self, secret: str) -> None:
        """Start a signature.

        Raises:
            ConfigurationError: The secret is empty. Anyone could make such a signature.
        """
        if not secret:
            raise _empty_secret()
        self._mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)

    def update(self, piece: Buffer) -> None:
        """Add the next chunk. Hashing more than 2 KiB releases the GIL.

        Raises:
            ConfigurationError: It is not bytes.
        """
        try:
            self._mac.update(piece)
        except (TypeError, ValueError, BufferError):  # a memoryview may be released or not contiguous
            problem = _not_bytes(piece)
        else:
            return
        raise problem

    def hexdigest(self) -> str:
        """Return the signature of all chunks so far, as 64 lower-case hex digits."""
        return self._mac.hexdigest()


class Verifier:
    """Verifies a payload that arrives in chunks against several secrets."""

    __slots__ = ("_signers",)

    def __init__(self, secrets: Sequence[str]) -> None:
        """Start a verification.

        Raises:
            ConfigurationError: The list of secrets, or one of them, is empty.
        """
        if not secrets:
            raise _no_secrets()
        self._signers = tuple([Signer(secret) for secret in secrets])

    def update(self, piece: Buffer) -> None:
        """Add the next chunk."""
        for signer in self._signers:
            signer.update(piece)

    def match(self, signature: str) -> int | None:
        """Return which secret made the signature.

        Every secret is compared, each in constant time, so that the duration does not depend on which one matches.

        Returns:
            The index of the secret, or ``None`` when no secret matches or the text is not a signature.
        """
        return _index_of(signature, [signer.hexdigest() for signer in self._signers])


def is_signature(text: str) -> bool:
    """Return whether the text has the form of a signature: 64 hex digits in any case."""
    return _HEX.fullmatch(text) is not None


def sign(secret: str, payload: Buffer) -> str:
    """Sign a whole payload.

    Raises:
        ConfigurationError: The secret is empty, or the payload is not bytes.
    """
    if not secret:
        raise _empty_secret()
    try:
        # A short payload is copied, which takes less time than `hmac` needs to find its algorithm in OpenSSL 3.
        if isinstance(payload, bytes) and len(payload) <= _SHORT:
            return _sign_short(secret.encode(), payload)
        return hmac.digest(secret.encode(), payload, "sha256").hex()
    except (TypeError, ValueError, BufferError):
        problem = _not_bytes(payload)
    raise problem


def _sign_short(key: bytes, payload: bytes) -> str:
    """Return the HMAC as https://www.rfc-editor.org/rfc/rfc2104#section-2 defines it."""
    if len(key) > _BLOCK:
        key = hashlib.sha256(key).digest()
    key = key.ljust(_BLOCK, b"\0")
    inner = hashlib.sha256(key.translate(_INNER_PAD) + payload)
    return hashlib.sha256(key.translate(_OUTER_PAD) + inner.digest()).hexdigest()


def verify(payload: Buffer, signature: str, secrets: Sequence[str]) -> int | None:
    """Verify a whole payload; see `Verifier.match`."""
    if not secrets:
        raise _no_secrets()
    return _index_of(signature, [sign(secret, payload) for secret in secrets])


def _index_of(signature: str, signatures: Sequence[str]) -> int | None:
    if _HEX.fullmatch(signature) is None:
        return None
    expected = signature.lower()
    # All are compared before the result is used, so that timing does not reveal which secret is in use.
    matches = [hmac.compare_digest(text, expected) for text in signatures]
    return matches.index(True) if True in matches else None


def _empty_secret() -> ConfigurationError:
    return ConfigurationError(
        "The shared secret is empty: pass the one that the Customer Portal showed when it was created."
    )


def _no_secrets() -> ConfigurationError:
    return ConfigurationError("The list of shared secrets is empty: pass at least one.")


def _not_bytes(payload: object) -> ConfigurationError:
    return ConfigurationError(
        f"The payload to sign must be bytes, not {type(payload).__name__}: encode a text as UTF-8."
    )
