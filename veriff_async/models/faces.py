"""Pictures of faces that are imported for comparison with later sessions."""

from __future__ import annotations

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.json import JsonObject

__all__ = ("FaceImage", "FaceImportReceipt")


@frozen
class FaceImage(Model):
    """A picture of a face to import (https://devdocs.veriff.com/apidocs/bulk-import-face-images).

    Args:
        name: A name that you choose, without personal data. Veriff processes the same name once in five minutes, and
            ignores repetitions within that time.
        content: The picture as bytes: JPEG, PNG, WebP, HEIC or HEIF.
    """

    name: str = field(repr=False)
    content: bytes = field(repr=False)


@frozen(kw_only=True)
class FaceImportReceipt(Model):
    """The response to an import, which Veriff continues in the background.

    Attributes:
        available_quota: The number of pictures that may still be imported, as documented. `raw` has all members.
    """

    available_quota: int | None = None
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
