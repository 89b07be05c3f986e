"""Which recording serves a request: rules without sockets."""

from __future__ import annotations

from typing import Final

import pytest

from veriff_async import Credentials
from veriff_async._protocol.image_header import detect_type
from veriff_async.sandbox._errors import HTTPError
from veriff_async.sandbox._recording.body_capture import Blob
from veriff_async.sandbox._recording.cassette import Cassette, Entry, EntryKind, Message
from veriff_async.sandbox._recording.fakes import fill
from veriff_async.sandbox._recording.library import Library, Mismatch
from veriff_async.sandbox._recording.request_check import RequestCheck
from veriff_async.sandbox._recording.unification import Request, compare, replace

ID: Final = "00000000-0000-4000-8000-000000000000"
OTHER: Final = "00000000-0000-4000-8000-000000000001"
PICTURE: Final = {"$blob": {"size": 3, "type": "image/png", "sha256": "00"}}


def recorded(path: str = "/v1/sessions", content: object = None, *, method: str = "POST") -> Message:
    """Return a recorded request."""
    size = 0 if content is None else 1
    return Message(headers={}, method=method, path=path, size=size, has_json=content is not None, content=content)


def request(path: str = "/v1/sessions", content: object = None, *, method: str = "POST") -> Request:
    """Return a request."""
    size = 0 if content is None else 1
    return Request(method=method, path=path, size=size, has_json=content is not None, content=content)


@pytest.mark.parametrize(
    ("content", "sent", "difference"),
    [
        ({"person": {"firstName": "fake"}}, {"person": {"firstName": "Anna"}}, ""),
        ({"document": {"type": "PASSPORT"}}, {"document": {"type": "ID_CARD"}}, "document.type differs"),
        ({"document": {"type": "PASSPORT"}}, {"document": {}}, "document.type is recorded and was not sent"),
        ({"document": {}}, {"document": {"type": "PASSPORT"}}, "document.type was sent and is not recorded"),
        ({"timestamp": "2026-01-01T00:00:00Z"}, {"timestamp": "2027-01-01T00:00:00.5Z"}, ""),
        ({"consents": [{"approved": True}]}, {"consents": [{"approved": False}]}, "consents[0].approved differs"),
        ({"consents": [1]}, {"consents": [1, 2]}, "consents has another number of items"),
        ({"vendorData": None}, {"vendorData": "x"}, "vendorData differs"),
        ({"vendorData": "fake"}, {"vendorData": 1}, "vendorData has another type"),
        ({"vendorData": "fake"}, {"vendorData": ["x"]}, "vendorData has another type"),
        ({"fake-a": 1}, {"unknown": 2}, ""),
        ({"fake-a": 1}, {}, "the body has another number of members"),
        ({"image": {"content": PICTURE}}, {"image": {"content": Blob(9, "image/png", "11")}}, ""),
        ({"image": {"content": PICTURE}}, {"image": {"content": "short"}}, ""),
        ({"image": {"content": "fake"}}, {"image": {"content": Blob(9)}}, ""),
        ({"image": {"content": PICTURE}}, {"image": {"content": 1}},
         "image.content is a picture or a long text in only one of the two"),
        ({"image": {"content": 1}}, {"image": {"content": Blob(9)}},
         "image.content is a picture or a long text in only one of the two"),
        ([], {}, "the body has another type"),
        (None, {}, "one of the two has no body"),
    ],
)  # fmt: skip
def test_bodies_are_compared_by_what_has_a_meaning(content: object, sent: object, difference: str) -> None:
    """Values of persons, pictures and times may differ; structure, types and words may not."""
    assert compare(recorded(content=content), request(content=sent), {}, frozenset()).difference == difference


def test_a_file_is_not_json() -> None:
    """A body that is not JSON matches another such body only."""
    message = Message(headers={}, method="POST", path="/v1/x", size=3, content={"size": 3})
    assert not compare(
        message, Request(method="POST", path="/v1/x", size=9, content=Blob(9)), {}, frozenset()
    ).difference
    found = compare(message, Request(method="POST", path="/v1/x", size=2, has_json=True, content={}), {}, frozenset())
    assert found.difference == "one of the two bodies is not JSON"


@pytest.mark.parametrize(
    ("path", "sent", "is_same"),
    [
        (f"/v1/sessions/{ID}", f"/v1/sessions/{ID.upper()}/", True),
        (f"/v1/sessions/{ID}", f"/v1/sessions/{OTHER}", True),
        (f"/v1/sessions/{ID}/media", f"/v1/sessions/{ID}/person", False),
        (f"/v1/sessions/{ID}", "/v1/sessions/media", False),
        (f"/v1/sessions/{ID}/decision?version=1.0.0", f"/v1/sessions/{ID}/decision", False),
        ("/v1/sessions", "/v1/sessions/", True),
    ],
)
def test_ids_of_the_program_may_differ_in_paths(path: str, sent: str, *, is_same: bool) -> None:
    """An id that Veriff did not choose stands for any; words must be the same."""
    assert (not compare(recorded(path), request(sent), {}, frozenset()).difference) is is_same


def test_ids_of_veriff_must_be_those_of_the_recording() -> None:
    """Another id than the one that a response contained is another session; a bound id stays bound."""
    message, other = recorded(f"/v1/sessions/{ID}"), request(f"/v1/sessions/{OTHER}")
    assert compare(message, other, {}, frozenset({ID})).difference
    assert compare(message, other, {ID: "third"}, frozenset()).difference
    assert compare(message, other, {}, frozenset()).bindings == {ID: OTHER}


def test_responses_contain_the_values_of_the_program() -> None:
    """Fakes are replaced in texts, numbers and URLs of the API; words, which are no fakes, stay."""
    content = {
        "status": "approved",
        "vendorData": "approved",
        "yearOfBirth": 1950,
        "isDeceased": True,
        "items": ["approved", PICTURE],
        "url": f"{{api}}/v1/media/{ID}",
    }
    bindings: dict[str | float, str | float] = {"approved": "user-42", 1950: 1990, ID: OTHER}
    assert replace(content, bindings, "http://127.0.0.1:1") == {
        "status": "approved",
        "vendorData": "user-42",
        "yearOfBirth": 1990,
        "isDeceased": True,
        "items": ["user-42", ""],
        "url": f"http://127.0.0.1:1/v1/media/{OTHER}",
    }


def entry(
    number: int, message: Message, content: object = None, *, kind: EntryKind = "exchange", status: int = 200
) -> Entry:
    """Return an entry."""
    response = Message(headers={}, status=status, size=1, has_json=True, content=content or {})
    return Entry(
        line=number + 2,
        kind=kind,
        number=number,
        at=float(number),
        seconds=0.5,
        ending="complete",
        request=message,
        response=response,
    )


def test_a_webhook_of_an_unknown_session_follows_everything_before_it() -> None:
    """Without requests of its session, its place among those of others decides."""
    path, body = f"/v1/sessions/{OTHER}", {"verification": {"status": "submitted"}}
    change = entry(0, recorded(path, body, method="PATCH"))
    webhook = entry(3, recorded("/", {"sessionId": ID}), kind="webhook")
    library = Library(Cassette(is_redacted=True, entries=(change, webhook)))
    assert not library.take_webhooks()
    assert (
        library.find(request(f"/v1/sessions/{OTHER}", {"verification": {"status": "submitted"}}, method="PATCH"))
        is change
    )
    assert library.take_webhooks() == [(webhook, 2.5)]
    assert not library.take_webhooks()
    assert not library.unused


def test_recorded_refusals_serve_refused_requests() -> None:
    """A program that was refused while it was recorded is refused again, and others are not."""
    refused = entry(0, recorded(content={}), status=401)
    library = Library(Cassette(is_redacted=True, entries=(refused, entry(1, recorded(content={})))))
    assert library.find(request(content={}), is_refused=True) is refused
    assert isinstance(library.find(request(content={}), is_refused=True), Mismatch)


def test_many_equal_requests_find_their_own_recordings() -> None:
    """The recording with the same values serves, even if it is not the next one; else the next one does."""
    entries = tuple(entry(number, recorded(content={"vendorData": f"v{number}"})) for number in range(300))
    library = Library(Cassette(is_redacted=False, entries=entries))
    assert library.find(request(content={"vendorData": "v7"})) is entries[7]
    assert library.find(request(content={"vendorData": "new"})) is entries[0]
    empty = Library(Cassette(is_redacted=False, entries=()))
    assert "the cassette has no requests" in str(empty.find(request()))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png", "image/webp", "image/heic", "application/pdf", None])
@pytest.mark.parametrize("size", [0, 3, 60, 100_000])
def test_fillers_have_the_type_and_size(media_type: str | None, size: int) -> None:
    """A downloaded file has the recorded size, and its type where it is large enough."""
    picture = b"\xff\xd8\xff\xe0" + bytes(50_000)
    content = b"".join(fill(media_type, size, picture))
    assert len(content) == size
    if size >= 60:
        assert detect_type(content) == media_type


CREDENTIALS: Final = Credentials(ID, "secret")
KEY: Final = {"X-AUTH-CLIENT": ID}


@pytest.mark.parametrize(
    ("method", "path", "headers", "signed"),
    [
        ("GET", "/v1/feedback/fraud-categories", {"VRF-AUTH-CLIENT": ID}, b"/v1/feedback/fraud-categories"),
        ("POST", "/v1/feedback/fraud-reports", {"VRF-AUTH-CLIENT": ID}, b"/v1/feedback/fraud-reports\n{}"),
        ("POST", "/sync/v1/validate-registry", {**KEY, "X-API-Key": ID}, b"{}"),
        ("GET", f"/v1/sessions/{OTHER}/decision", KEY, OTHER.encode()),
        ("GET", f"/v1/new-things/{OTHER}/x", KEY, OTHER.encode()),
        ("POST", "/v1/new-things", KEY, b"{}"),
    ],
)
def test_each_request_is_checked_as_it_is_signed(
    method: str, path: str, headers: dict[str, str], signed: bytes
) -> None:
    """The id, the body, or the path: the check takes what Veriff's documents say for the endpoint."""
    for payload, is_right in ((signed, True), (b"x", False)):
        check = RequestCheck(method, path, {**headers, "X-HMAC-SIGNATURE": CREDENTIALS.sign(payload)}, CREDENTIALS)
        if method == "POST":
            check.feed(b"{}")
        if is_right:
            assert check.finish() == "secret"
        else:
            with pytest.raises(HTTPError, match="does not match"):
                check.finish()
    with pytest.raises(HTTPError, match="missing"):
        RequestCheck(method, path, {}, CREDENTIALS).finish()


def test_some_requests_need_no_signature() -> None:
    """A request whose signature is optional is right without one, and its body counts for a signature by body only."""
    check = RequestCheck("POST", "/sync/v1/validate-registry", {**KEY, "X-API-Key": ID}, CREDENTIALS)
    check.feed(b"{}")
    assert "secret" == check.finish()
    signed = {**KEY, "X-HMAC-SIGNATURE": CREDENTIALS.sign(OTHER.encode())}
    check = RequestCheck("GET", f"/v1/sessions/{OTHER}/decision", signed, CREDENTIALS)
    check.feed(b"a body that is not signed")
    assert "secret" == check.finish()
