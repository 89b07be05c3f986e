"""Pictures of faces that are imported for comparison with later sessions."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.json import JsonObject

__all__ = ("FaceImage", "FaceImportReceipt")


@frozen
class FaceImage:
    """A picture of a face to import (https://devdocs.veriff.com/apidocs/bulk-import-face-images).

    Args:
        name: A name of your own, without personal data. Veriff processes the same name once in five minutes, and
            ignores it when it comes again within them.
        content: The picture as bytes: JPEG, PNG, WebP, HEIC or HEIF.
    """

    name: str = field(repr=False)
    content: bytes = field(repr=False)


@frozen(kw_only=True)
class FaceImportReceipt:
    """The answer to an import, which goes on in the background.

    Attributes:
        available_quota: How many pictures may still be imported; documented. Whatever else came is in `raw`.
    """

    available_quota: int | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
