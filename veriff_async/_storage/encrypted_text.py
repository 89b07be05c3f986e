"""Texts of a store, encrypted if the store has a ring of keys.

A store that was not encrypted before reads its old texts as they are, and encrypts those that it writes from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veriff_async._protocol.arguments import check_instance
from veriff_async.encryption import DecryptionError, KeyRing, is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable

    from veriff_async.errors import VeriffError

__all__ = ("TextCodec",)


class TextCodec:
    """Encodes and decodes the stored texts of one store.

    Args:
        ring: The keys; ``None`` stores texts as they are.
        error: The class of the store's errors.
        owner: The store, such as ``inbox``.

    Raises:
        ConfigurationError: The ring is of another type.
    """

    def __init__(self, ring: object, *, error: Callable[[str], VeriffError], owner: str) -> None:
        """Check the ring."""
        if ring is not None:
            ring = check_instance("encryption", ring, KeyRing, remedy="pass KeyRing.from_env()")
        self._ring: KeyRing | None = ring
        self._error = error
        self._owner = owner

    @property
    def search_secrets(self) -> tuple[bytes, ...]:
        """The secrets of keys of search: the first one for new keys, all of them to find earlier ones."""
        return (b"",) if self._ring is None else (*self._ring.search_secrets, b"")

    def encode(self, text: bytes, *place: str) -> bytes:
        """Return a text as it is stored.

        Args:
            text: The text.
            *place: An identifier of its place in the store, for example the kind of text and the session.
        """
        return text if self._ring is None else self._ring.encrypt(text, self._to_bytes(place))

    def decode(self, data: bytes, *place: str) -> bytes:
        """Return the text of what is stored.

        Raises:
            VeriffError: It is encrypted, and the ring is missing or lacks its key; or it was changed or moved.
        """
        if not is_encrypted(data):
            return data
        problem = "it is encrypted: pass encryption= with the ring of its keys, and VERIFF_STORE_KEYS to a command"
        if self._ring is not None:
            try:
                return self._ring.decrypt(data, self._to_bytes(place))
            except DecryptionError as error:
                problem = str(error)
        msg = f"A stored text of the {self._owner} cannot be decrypted, because {problem}."
        raise self._error(msg)

    def lacks_key(self, data: bytes) -> bool:
        """Return whether a text can be read by another process only, which has its key."""
        return is_encrypted(data) and (self._ring is None or not self._ring.has_key_of(data))

    def incomplete_search_error(self) -> VeriffError:
        """Return the error of a search that misses something, because other processes have keys that this one lacks."""
        remedy = "pass encryption= with the ring of all its keys, and VERIFF_STORE_KEYS to a command"
        return self._error(
            f"Not all of the {self._owner} can be searched, because some of it cannot be decrypted: {remedy}."
        )

    def is_current(self, data: bytes) -> bool:
        """Return whether a text is stored as `encode` stores it now, so that it need not be written again."""
        return not is_encrypted(data) if self._ring is None else self._ring.is_current(data)

    def _to_bytes(self, place: tuple[str, ...]) -> bytes:
        # Lengths, so that no two places have the same bytes.
        parts = [part.encode("utf-8", "surrogatepass") for part in (self._owner, *place)]
        return b"".join(b"%d:%b" % (len(part), part) for part in parts)
