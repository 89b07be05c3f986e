"""Certificates that prove which data of a session Veriff stored at a point in time, and their source documents."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.base import Model
from veriff_async.models.json import JsonObject

__all__ = ("Certificate", "SourceDocument")


@frozen(kw_only=True)
class SourceDocument(Model):
    """A document that a certificate covers, usually a PDF.

    Attributes:
        id: Its id, for downloading it.
        url: API address of the file; it needs signed headers, so download it with the client.

    See https://devdocs.veriff.com/apidocs/list-session-certificates. `raw` has its other members.
    """

    id: str
    url: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Certificate(Model):
    """A long-term preservation certificate of a session (https://devdocs.veriff.com/apidocs/list-session-certificates).

    Attributes:
        id: Its id.
        kind: For example ``nom-151-certificate``.
        format: For example ``pkcs7``.
        value: The certificate itself as base64: a signed timestamp token (CMS/PKCS#7).
        created_at: When it was issued.
        metadata: Data of the certificate authority: serial number, date of issue, hash and its algorithm. The names of
            its members are not documented, so it is the JSON as received.
        source_documents: The documents that it covers.
    """

    id: str
    kind: str | None = None
    format: str | None = None
    value: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    # Not hashed: a mapping is not hashable.
    metadata: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    source_documents: tuple[SourceDocument, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)
