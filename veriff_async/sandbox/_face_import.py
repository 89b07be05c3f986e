"""Faces that are imported for comparison: up to ten in a request, within a quota. Pure.

Documented (https://devdocs.veriff.com/apidocs/bulk-import-face-images): the status 202, at most ten images in a
request, the remaining quota in the response, and that a name is not processed again within five minutes. Guesses: the
members of the body, that sessions count like images, and the response when the quota is used up (400).
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Final

from attrs import field, frozen
from pybase64 import b64decode

from veriff_async._protocol.limits import MAX_IMPORTED_FACES
from veriff_async.models.json import EMPTY, JsonObject, as_list, as_object
from veriff_async.sandbox._errors import HTTPError

__all__ = ("FaceCollection", "FaceState", "ImportedFace")

_DUPLICATE_PERIOD: Final = timedelta(minutes=5)


@frozen(kw_only=True)
class ImportedFace:
    """An imported face: a picture, or a reference to a session.

    Attributes:
        name: The name of the picture.
        sha256: Hex digest of its bytes.
        session_id: The session that the request refers to instead of a picture.
        is_processed: Whether it is processed; a name that was imported within the last five minutes is not.
    """

    name: str | None = field(default=None, repr=False)
    sha256: str | None = None
    session_id: str | None = None
    is_processed: bool = True


@frozen(kw_only=True)
class FaceState:
    """A collection at one time."""

    named: dict[str, datetime]
    faces: tuple[ImportedFace, ...]


class FaceCollection:
    """The imported faces of one integration."""

    def __init__(self, quota: int) -> None:
        """Start with an empty collection."""
        self.quota = quota
        self._named: dict[str, datetime] = {}
        self.faces: list[ImportedFace] = []

    @property
    def state(self) -> FaceState:
        """The present state; set it to restore one."""
        return FaceState(named=dict(self._named), faces=tuple(self.faces))

    @state.setter
    def state(self, state: FaceState) -> None:
        self._named, self.faces = dict(state.named), list(state.faces)

    def import_faces(self, body: JsonObject, *, now: datetime) -> JsonObject:
        """Answer ``POST /v1/faces/import``.

        Raises:
            HTTPError: The number of faces is wrong, one cannot be read, or the quota is used up (codes are guesses).
        """
        images, sessions = as_list(body.get("images")), as_list(body.get("sessionIds"))
        count = len(images) + len(sessions)
        if not 1 <= count <= MAX_IMPORTED_FACES:
            raise HTTPError(400, "1104", f"There must be 1 to {MAX_IMPORTED_FACES} images")
        faces = [_read_image(as_object(image) or EMPTY) for image in images]
        faces += [ImportedFace(session_id=_check_name(session)) for session in sessions]
        left = max(0, self.quota - len(self.faces))
        if count > left:
            raise HTTPError(400, "1104", "Quota is exceeded")
        # Charged after every face was read, so that a refused request costs nothing.
        self.faces += [self._mark_duplicate(face, now) for face in faces]
        return {"status": "success", "availableQuota": left - count}

    def _mark_duplicate(self, face: ImportedFace, now: datetime) -> ImportedFace:
        if face.name is None:
            return face
        last = self._named.get(face.name)
        if last is not None and now - last < _DUPLICATE_PERIOD:
            return ImportedFace(name=face.name, sha256=face.sha256, is_processed=False)
        self._named[face.name] = now
        return face


def _read_image(image: JsonObject) -> ImportedFace:
    name, content = _check_name(image.get("name")), image.get("content")
    if not isinstance(content, str) or not content:
        raise HTTPError(400, "1400", "Image data is missing")
    try:
        # A data URI or bare base64, as for uploads (a guess).
        data = b64decode(content.partition(";base64,")[2] or content, validate=True)
    except ValueError:
        raise HTTPError(400, "1401", "Image is not valid base64") from None
    return ImportedFace(name=name, sha256=hashlib.sha256(data).hexdigest())


def _check_name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise HTTPError(400, "1104", "name and sessionIds must be strings")
    return value
