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


class Signer:
    """Signs a payload that arrives in chunks."""

    __slots__ = ("_mac",)

    def __init__(self, secret: str) -> None:
        """Start a signature.

        Raises:
            ConfigurationError: The secret is empty. Anyone could make such a signature.
        """
        if not secret:
            msg = "The shared secret is empty: pass the one that the Customer Portal showed when it was created."
            raise ConfigurationError(msg)
        self._mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)

    def update(self, piece: Buffer) -> None:
        """Add the next chunk. Hashing more than 2 KiB releases the GIL.

        Raises:
            ConfigurationError: It is not bytes.
        """
        try:
            self._mac.update(piece)
        except (TypeError, ValueError, BufferError):  # a memoryview may be released or not contiguous
            problem = f"The payload to sign must be bytes, not {type(piece).__name__}: encode a text as UTF-8."
        else:
            return
        raise ConfigurationError(problem)

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
            msg = "The list of shared secrets is empty: pass at least one."
            raise ConfigurationError(msg)
        self._signers = tuple(Signer(secret) for secret in secrets)

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
        if not is_signature(signature):
            return None
        expected = signature.lower()
        # All secrets are compared before the result is used, so that timing does not reveal which one is in use.
        matches = [hmac.compare_digest(signer.hexdigest(), expected) for signer in self._signers]
        return matches.index(True) if any(matches) else None


def is_signature(text: str) -> bool:
    """Return whether the text has the form of a signature: 64 hex digits in any case."""
    return _HEX.fullmatch(text) is not None


def sign(secret: str, payload: Buffer) -> str:
    """Sign a whole payload."""
    signer = Signer(secret)
    signer.update(payload)
    return signer.hexdigest()


def verify(payload: Buffer, signature: str, secrets: Sequence[str]) -> int | None:
    """Verify a whole payload; see `Verifier.match`."""
    verifier = Verifier(secrets)
    verifier.update(payload)
    return verifier.match(signature)
