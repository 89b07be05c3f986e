"""A media that was checked and is ready to be signed. `prepare` makes it, and `stream_body` signs and sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, field

from veriff_async._media.source import SMALL, BytesSource
from veriff_async._protocol.limits import MAX_SIDE
from veriff_async._records import record

if TYPE_CHECKING:
    from veriff_async._media.source import Source
    from veriff_async._protocol.upload_body import BodyTemplate
    from veriff_async.models.media import Media

__all__ = ("PreparedMedia",)


@record
class PreparedMedia:
    """A media whose type and size are known and accepted, ready to be signed.

    Attributes:
        media: The media as the caller gave it.
        source: Its bytes, after spooling and conversion.
        template: The JSON around them.
        mimetype: The type that the bytes show.
        dimensions: Width and height in pixels, or ``None`` if the header does not state them.
        is_held: Whether the bytes are in memory and cannot change.
        is_small: Whether the bytes are in memory and so few that signing them takes less time than a hop to a thread.
    """

    media: Media
    source: Source
    template: BodyTemplate
    mimetype: str
    dimensions: tuple[int, int] | None = None
    is_small: bool = field(init=False, default=Factory(lambda self: _is_small(self.source), takes_self=True))

    @property
    def is_held(self) -> bool:
        """See `PreparedMedia`."""
        return isinstance(self.source, BytesSource) and self.source.constant

    @property
    def length(self) -> int:
        """Bytes of the whole request body."""
        return self.template.length(self.source.size)

    @property
    def size_warning(self) -> str | None:
        """The warning about a picture that is larger than Veriff advises, or ``None``."""
        if self.dimensions is None or max(self.dimensions) <= MAX_SIDE:
            return None
        if self.media.max_side is not None and self.media.max_side <= MAX_SIDE:
            return None
        width, height = self.dimensions
        return (
            f"The picture for {self.media.context} has {width} x {height} pixels, and Veriff advises {MAX_SIDE} for "
            f"the longer side: pass Media(..., max_side={MAX_SIDE}) to scale it down."
        )


def _is_small(source: Source) -> bool:
    return isinstance(source, BytesSource) and source.size <= SMALL
