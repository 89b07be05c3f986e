"""HMAC-SHA256 as Veriff uses it: sign whole or in pieces, verify against a ring of secrets.

The key is the shared secret as UTF-8 text, the signature 64 hex digits, lower case when written and in any case when
read (https://devdocs.veriff.com/apidocs/veriff-public-api-guides).
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
    """Sign a payload that comes in pieces."""

    __slots__ = ("_mac",)

    def __init__(self, secret: str) -> None:
        """Begin a signature.

        Raises:
            ConfigurationError: The secret is empty; such a signature anybody could make.
        """
        if not secret:
            msg = "The shared secret is empty: give the one that the Customer Portal showed when it was made."
            raise ConfigurationError(msg)
        self._mac = hmac.new(secret.encode(), digestmod=hashlib.sha256)

    def update(self, piece: Buffer) -> None:
        """Add the next piece; hashing more than 2 KiB lets other threads run meanwhile.

        Raises:
            ConfigurationError: It is not bytes.
        """
        try:
            self._mac.update(piece)
        except (TypeError, ValueError, BufferError):  # a view may be released, or not be one piece
            problem = f"What is signed must be bytes, not {type(piece).__name__}: encode a text as UTF-8."
        else:
            return
        raise ConfigurationError(problem)

    def hexdigest(self) -> str:
        """Return the signature of everything so far, as 64 lower-case hex digits."""
        return self._mac.hexdigest()


class Verifier:
    """Check a payload that comes in pieces against several live secrets at once."""

    __slots__ = ("_signers",)

    def __init__(self, secrets: Sequence[str]) -> None:
        """Begin a check.

        Raises:
            ConfigurationError: There is no secret, or one of them is empty.
        """
        if not secrets:
            msg = "There is no shared secret to verify with: give at least one."
            raise ConfigurationError(msg)
        self._signers = tuple(Signer(secret) for secret in secrets)

    def update(self, piece: Buffer) -> None:
        """Add the next piece."""
        for signer in self._signers:
            signer.update(piece)

    def match(self, signature: str) -> int | None:
        """Tell which secret made the signature.

        Every secret is compared, in constant time, whichever matches.

        Returns:
            Its place in the ring, or ``None`` when none did or the text is no signature.
        """
        if not is_signature(signature):
            return None
        claimed = signature.lower()
        matches = [hmac.compare_digest(signer.hexdigest(), claimed) for signer in self._signers]
        return matches.index(True) if any(matches) else None


def is_signature(text: str) -> bool:
    """Tell whether the text has the form of a signature: 64 hex digits of either case."""
    return _HEX.fullmatch(text) is not None


def sign(secret: str, payload: Buffer) -> str:
    """Sign a whole payload, see `Signer`."""
    signer = Signer(secret)
    signer.update(payload)
    return signer.hexdigest()


def verify(payload: Buffer, signature: str, secrets: Sequence[str]) -> int | None:
    """Check a whole payload, see `Verifier.match`."""
    verifier = Verifier(secrets)
    verifier.update(payload)
    return verifier.match(signature)
