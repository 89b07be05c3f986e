"""Certificates that prove what Veriff held of a session at a moment, and the documents that they are about."""

from __future__ import annotations

from datetime import datetime

from attrs import field, frozen

from veriff_async.models.json import JsonObject

__all__ = ("Certificate", "CertificateFile", "SourceDocument")


@frozen(kw_only=True)
class SourceDocument:
    """A document that a certificate is about, usually a PDF.

    Attributes:
        id: Its id, for downloading it.
        url: API address of the file; it needs signed headers, so use the client to read it.

    See https://devdocs.veriff.com/apidocs/list-session-certificates. Further members are not known, and stay in `raw`.
    """

    id: str
    url: str | None = field(default=None, repr=False)
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class Certificate:
    """A long-term preservation certificate of a session (https://devdocs.veriff.com/apidocs/list-session-certificates).

    Attributes:
        id: Its id.
        kind: For example ``nom-151-certificate``.
        format: For example ``pkcs7``.
        value: The certificate itself as base64: a signed timestamp token (CMS/PKCS#7).
        created_at: When it was made.
        metadata: What the certificate authority says: serial number, date of issue, hash and its algorithm. The names
            of its members are not known, so it is as it came.
        source_documents: The documents that it is about.
    """

    id: str
    kind: str | None = None
    format: str | None = None
    value: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    metadata: JsonObject = field(factory=dict[str, object], repr=False, hash=False)
    source_documents: tuple[SourceDocument, ...] = ()
    raw: JsonObject = field(factory=dict[str, object], repr=False, eq=False)


@frozen(kw_only=True)
class CertificateFile:
    """Where a document of a certificate is: the three ids of its path."""

    id: str
    session_id: str
    certificate_id: str
