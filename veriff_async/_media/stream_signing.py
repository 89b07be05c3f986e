"""A signature that is made while a stream is still coming: what will be sent is known once its first bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from veriff_async._media.source import PIECE, PRIVATE
from veriff_async._media.stream_body import Proof, SignedBody
from veriff_async._protocol.file_type import sniff
from veriff_async._protocol.media_rules import context_of
from veriff_async._protocol.upload_body import encode, image_envelope
from veriff_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from veriff_async._media.stream_body import Draft
    from veriff_async._protocol.signing import Signer
    from veriff_async._protocol.upload_body import Envelope
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media

__all__ = ("StreamSigner",)

_GROUP: Final = 3


class StreamSigner:
    """Signs a media of one stream piece by piece, as far as its beginning tells what it is.

    It refuses nothing: what cannot be told here is told, with its error, where the whole media is looked at.
    """

    def __init__(self, media: Media, credentials: Credentials) -> None:
        """Take what comes, and who signs it."""
        self._media = media
        self.credentials = credentials
        self._envelope: Envelope | None = None
        self._signer: Signer | None = None
        self._carried = b""

    def begin(self, head: bytes) -> None:
        """Look at the first bytes, as many as `sniff` needs; `take` gets them too."""
        mimetype = sniff(head)
        if mimetype is None or self._media.max_side is not None:
            return
        try:
            self._envelope = image_envelope(context_of(self._media), mimetype, self._media.timestamp)
        except InvalidArgumentError:
            return
        self._signer = self.credentials.signer()
        self._signer.update(self._envelope.prefix)

    def take(self, piece: bytes | bytearray) -> None:
        """Add the next piece, of any length. It keeps a processor busy; call it in a worker thread."""
        if self._signer is None:
            return
        start = 0
        if self._carried:
            start = min(_GROUP - len(self._carried), len(piece))
            self._carried += piece[:start]
            if len(self._carried) < _GROUP:
                return
            self._signer.update(encode(self._carried))
        rest = memoryview(piece)[start:]
        whole = len(rest) - len(rest) % _GROUP
        for place in range(0, whole, PIECE):
            self._signer.update(encode(rest[place : min(place + PIECE, whole)]))
        self._carried = bytes(rest[whole:])

    def body(self, draft: Draft) -> SignedBody | None:
        """Return what is sent for the stream that is spooled now, or ``None`` when it was not foreseen."""
        if self._signer is None or self._envelope != draft.envelope or draft.inline:
            return None
        signer, self._signer = self._signer, None
        signer.update(encode(self._carried))
        signer.update(draft.envelope.suffix)
        return SignedBody(draft, signer.hexdigest(), self.credentials, proof=Proof(PRIVATE, 0))
