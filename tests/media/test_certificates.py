"""Certificates of a session and their source documents: listed, saved and streamed like media."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import pytest

from veriff_async import (
    InvalidArgumentError,
    Media,
    MediaExistsError,
    NotFoundError,
    ResponseError,
    VeriffClient,
)
from veriff_async._protocol import endpoints
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.response import Response
from veriff_async.credentials import Credentials
from veriff_async.models import Certificate, SourceDocument
from veriff_async.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async import VerificationSession

pytestmark = pytest.mark.anyio

PDF: Final = b"%PDF-1.7 Canary-7f3a " + bytes(range(256)) * 600
ID: Final = "8f0d1ab6-0000-4000-8000-000000000001"
CREDENTIALS: Final = Credentials("key", "secret")


@pytest.fixture
async def session(sandbox: Sandbox, veriff: VeriffClient) -> VerificationSession:
    """Return a session with one certificate of one PDF."""
    session = await veriff.create_session()
    await session.upload(Media(PDF, "generic-document-front"), Media(b"\xff\xd8\xff\xe0", "face"))
    sandbox.issue_certificate(session.id)
    return session


async def test_certificates_are_listed_with_their_documents(session: VerificationSession) -> None:
    """A certificate lists its documents, and its repr shows neither its value nor its metadata."""
    (certificate,) = await session.certificates()
    (document,) = certificate.source_documents

    assert (certificate.kind, certificate.format) == ("nom-151-certificate", "pkcs7")
    assert certificate.value
    assert certificate.created_at is not None
    assert document.id in (document.url or "")
    assert certificate.value not in repr(certificate)
    assert str(certificate.metadata.get("hash")) not in repr(certificate)


async def test_session_without_certificates_has_none(veriff: VeriffClient) -> None:
    """An empty list is a valid response, and an unknown session is an error."""
    assert await (await veriff.create_session()).certificates() == ()
    with pytest.raises(NotFoundError):
        await veriff.session(ID).certificates()


async def test_document_is_saved_by_objects_or_ids(session: VerificationSession, tmp_path: Path) -> None:
    """A document is saved byte for byte, under a name made of its id and type, readable by its owner only."""
    (certificate,) = await session.certificates()
    (document,) = certificate.source_documents

    saved = await session.download_certificate_document(certificate, document, tmp_path)
    again = await session.download_certificate_document(certificate.id, document.id, tmp_path / "mine.pdf")

    assert saved.path == tmp_path / f"{document.id}.pdf"
    for file in (saved, again):
        assert await anyio.Path(file.path).read_bytes() == PDF
        assert (await anyio.Path(file.path).stat()).st_mode & 0o077 == 0
    with pytest.raises(MediaExistsError):
        await session.download_certificate_document(certificate, document, tmp_path)


async def test_document_can_be_streamed(session: VerificationSession) -> None:
    """The pieces of a stream are the document, and its signature is checked at the end."""
    (certificate,) = await session.certificates()

    async with session.stream_certificate_document(certificate, certificate.source_documents[0]) as stream:
        pieces = [piece async for piece in stream]

    assert b"".join(pieces) == PDF
    assert stream.mimetype == "application/pdf"


@pytest.mark.parametrize(
    "fault", [Fault.forge_signature(), Fault.corrupt_response(offset=5000)], ids=["forged", "corrupt"]
)
async def test_wrong_signature_keeps_nothing(
    sandbox: Sandbox, session: VerificationSession, tmp_path: Path, fault: Fault
) -> None:
    """A document with a wrong signature is an error, and leaves no file."""
    (certificate,) = await session.certificates()
    sandbox.inject(fault, path="/v1/sessions/*/certificates/*/files/*")

    with pytest.raises(ResponseError):
        await session.download_certificate_document(certificate, certificate.source_documents[0], tmp_path)

    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []


async def test_unknown_document_is_not_found(session: VerificationSession, tmp_path: Path) -> None:
    """An unknown document, and a certificate of an unknown session, are not body."""
    (certificate,) = await session.certificates()

    for certificate_id, document_id in ((certificate.id, ID), (ID, certificate.source_documents[0].id)):
        with pytest.raises(NotFoundError):
            await session.download_certificate_document(certificate_id, document_id, tmp_path)


async def test_sandbox_certifies_pdfs_only(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A session without a PDF cannot get a certificate."""
    session = await veriff.create_session()

    with pytest.raises(InvalidArgumentError, match="no PDF"):
        sandbox.issue_certificate(session.id)


@pytest.mark.parametrize("part", ["../x", "", "a/b", "a?b"])
def test_ids_cannot_change_the_path(part: str) -> None:
    """An id that would change the path is refused before any request."""
    for certificate_id, file_id in ((part, ID), (ID, part)):
        with pytest.raises(InvalidArgumentError, match="cannot be sent"):
            endpoints.download_certificate_file(ID, certificate_id, file_id).sign(CREDENTIALS)


@pytest.mark.parametrize("around", ["certificates", "data", "data.certificates"])
def test_list_is_found_in_each_likely_member(around: str) -> None:
    """The documentation does not say where the list is in the response, so each likely member is read."""
    body: object = [{"id": ID, "sourceDocuments": [{"id": "document"}], "newer": 1}]
    for name in reversed(around.split(".")):
        body = {name: body}
    request = endpoints.certificates(ID).sign(CREDENTIALS)

    (certificate,) = endpoints.certificates(ID).parse(
        Response(request=request, status=200, headers={}, body=dump(body))
    )

    assert certificate == Certificate(id=ID, source_documents=(SourceDocument(id="document"),))
    assert certificate.raw["newer"] == 1
