"""A media file as Veriff knows it after the upload."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.enums import MediaContext
from veriff_async.models.json import EMPTY, JsonObject

__all__ = ("UploadedMedia",)


@frozen(kw_only=True)
class UploadedMedia:
    """The receipt of one upload (https://devdocs.veriff.com/apidocs/v1sessionsidmedia-3).

    Attributes:
        id: Id of the media file, for downloading it later.
        context: What the picture shows.
        name: Usually the context again.
        size: Size in bytes as Veriff counted it.
        mimetype: MIME type as Veriff wrote it.
        url: API address of the file; it needs signed headers, so use the client to read it.
        session_id: The session; older answers leave it out.
        repeated: Whether an earlier attempt of the same upload broke off without an answer, so that Veriff may hold
            the picture twice (which it allows).
    """

    id: str
    context: MediaContext | None = None
    name: str | None = None
    size: int | None = None
    mimetype: str | None = None
    url: str | None = field(default=None, repr=False)
    session_id: str | None = None
    repeated: bool = False
    raw: JsonObject = field(default=EMPTY, repr=False, eq=False)
