"""Nothing that a person or a secret consists of reaches a cassette."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode, urlsafe_b64encode
from typing import Final, cast
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, strategies as st

from veriff_async import DocumentType, Status, to_json
from veriff_async.models import Decision, Document, Person
from veriff_async.sandbox._recording.body_capture import BodyCapture
from veriff_async.sandbox._recording.cassette import write_entry
from veriff_async.sandbox._recording.fakes import Fakes
from veriff_async.sandbox._recording.proxy import Exchange
from veriff_async.sandbox._recording.recorder import _to_line  # pyright: ignore[reportPrivateUsage]
from veriff_async.sandbox._recording.redaction import Redactor

KEY: Final = b"a key of a test, which is random in a recorder"
REDACTOR: Final = Redactor(Fakes(KEY), roots=["https://veriff.example"])

# Letters that a fake, a digest or the form of a cassette can hardly contain by chance.
ALPHABETS: Final = st.sampled_from(["ÄÖÜßéñçøłž", "山田太郎高橋", "MNOPQRSTUVWXYZ ", 'MNOPQR/+\\"<>&%', "🙂🙃😀😎🤖👻"])
TEXTS: Final = ALPHABETS.flatmap(lambda letters: st.text(letters, min_size=6, max_size=60))
PERSONAL: Final = st.sampled_from([
    "firstName", "lastName", "fullName", "idNumber", "vendorData", "placeOfBirth", "comment", "message", "reason", "ip",
    "sessionToken", "callback", "url", "content", "id", "sessionId", "endUserId", "value", "userAgent", "unknownMember",
])  # fmt: skip
OBJECTS: Final = st.sampled_from(["verification", "person", "document", "data", "image", "searchTerm"])
MEMBERS: Final = PERSONAL | OBJECTS | TEXTS
BODIES: Final = st.dictionaries(
    MEMBERS,
    st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=3),
    ),
    max_size=4,
)


def texts_in(value: object) -> set[str]:
    """Return all texts in JSON, and all names of members that Veriff does not have."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        names = {name for name in members if not (name.isascii() and name.isidentifier() and not name.isupper())}
        return names.union(*(texts_in(item) for item in members.values()))
    if isinstance(value, list):
        return set[str]().union(*(texts_in(item) for item in cast("list[object]", value)))
    return {value} if isinstance(value, str) else set()


def encodings_of(text: str) -> set[bytes]:
    """Return the bytes that show a text in a file: plain, escaped, percent-encoded, and in base64 at each offset."""
    raw = text.encode()
    found = {raw, json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
    found |= {quote(text, safe="").encode(), quote_plus(text).encode(), raw.hex().encode()}
    for encode in (b64encode, urlsafe_b64encode):
        for offset in range(3):
            # Without the characters that depend on the bytes before and after.
            found.add(encode(bytes(offset) + raw)[4 if offset else 0 : -4])
    return {each for each in found if len(each) >= 5}


def capture(body: bytes, *, size: int = 7, encoding: str = "") -> BodyCapture:
    """Return a body that has passed in chunks."""
    reader = BodyCapture(encoding)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader


@given(body=BODIES, path=TEXTS, query=TEXTS, header=TEXTS, escaped=st.booleans(), packed=st.booleans())
@example(
    body={"verification": {"person": {"x": "MNOPQR" * 9000}}},
    path="山田太郎高橋",
    query="MNOPQRST",
    header="MNOPQR/+",
    escaped=True,
    packed=True,
)
def test_no_text_of_a_person_survives(  # noqa: PLR0913  each part of a request
    *, body: dict[str, object], path: str, query: str, header: str, escaped: bool, packed: bool
) -> None:
    """No text of a request or response is in the bytes of a cassette, in any encoding."""
    raw = json.dumps(body, ensure_ascii=escaped).encode()
    encoding = "gzip" if packed else ""
    exchange = Exchange(
        method="POST",
        path=f"/v1/sessions/{quote(path, safe='')}/{path.encode().hex()}?{quote(query)}=1&version={quote(query)}",
        at=0.0,
        request_headers=[
            ("Content-Type", f"multipart/form-data; boundary={header}"),
            ("X-AUTH-CLIENT", header),
            (header, header),
        ],
        sent=capture(gzip.compress(raw) if packed else raw, encoding=encoding),
        status=200,
        response_headers=[
            ("Retry-After", header),
            ("X-HMAC-SIGNATURE", header),
            ("Content-Encoding", encoding or header),
        ],
        received=capture(raw, size=1000),
    )
    line = _to_line(REDACTOR, 0, "exchange", exchange, 0.1)
    for text in texts_in(body) | {path, query, header}:
        for found in encodings_of(text):
            assert found not in line


@given(st.text(max_size=30) | st.from_regex(r"\+?[0-9]{1,12}", fullmatch=True) | st.uuids().map(str))
def test_a_fake_is_another_value_and_stable(value: str) -> None:
    """Equal values have equal fakes; an empty text stays."""
    fake = Fakes(KEY).text(value)
    assert (fake == value) == (not value)
    assert fake == Fakes(KEY).text(value)


def test_fakes_depend_on_the_key() -> None:
    """Without the key, no one can find a value by computing the fakes of all names."""
    assert Fakes(KEY).text("Anna") != Fakes(b"another").text("Anna")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("1990-05-03", r"19\d\d-\d\d-\d\d"),
        ("2024-01-02T03:04:05.123456Z", r"19\d\d-\d\d-\d\dT00:00:00\.000000Z"),
        (
            "DDF52000-8064-455C-A917-8BED8A41632C",
            r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
        ),
        ("39001010000", r"[1-9]\d{10}"),
        ("+3725550000", r"\+[1-9]\d{9}"),
        ("anna@example.com", r"fake-[a-z2-7]{16}@redacted\.example"),
        ("https://example.com/anna", r"https://redacted\.example/fake-[a-z2-7]{16}"),
        ("192.168.0.1", r"198\.1[89]\.\d+\.\d+"),
        ("2001:db8::1", r"2001:db8:.*"),
        ("Anna", r"fake-[a-z2-7]{16}"),
    ],
)
def test_forms_of_fakes(value: str, form: str) -> None:
    """Clients check ids, dates and numbers, so a fake is one too."""
    assert re.fullmatch(form, Fakes(KEY).text(value))


def test_numbers_have_fakes_too() -> None:
    """A year of birth is personal; as a number and as a text it has one fake."""
    year = Fakes(KEY).number(1990)
    assert year != 1990
    assert str(year) == Fakes(KEY).text("1990")
    assert 10 <= Fakes(KEY).number(59.43) < 100
    assert Fakes(KEY).number(10**400) != 10**400
    assert 0 < Fakes(KEY).number(1.7e308) < 1e18


def test_references_stay_consistent() -> None:
    """An id has one fake in paths, bodies and URLs, in either case."""
    session = "ddf52000-8064-455c-a917-8bed8a41632c"
    fake = REDACTOR.json(session, name="id")
    assert REDACTOR.path(f"/v1/sessions/{session.upper()}/decision?version=1.0.0") == (
        f"/v1/sessions/{fake}/decision?version=1.0.0"
    )
    assert REDACTOR.json(f"https://veriff.example/v1/media/{session}", name="url") == f"{{api}}/v1/media/{fake}"


def test_known_fields_stay() -> None:
    """A reader sees what happened: statuses, codes, types, countries, contexts and times stay, in every model."""
    decision = {
        "status": "success",
        "verification": {
            "status": "declined", "code": 9102, "reasonCode": 106, "decisionTime": "2024-01-02T03:04:05.123456Z",
            "document": {"type": "ID_CARD", "country": "EE"}, "riskLabels": [{"label": "x_y", "category": "fraud"}],
            "reason": "Known fraud",
        },
    }  # fmt: skip
    assert REDACTOR.json(decision) == decision
    assert "Anna" not in write_entry({"x": REDACTOR.json({"verification": {"reason": "Anna: known fraud"}})}).decode()
    media = {"images": [{"context": "document-front", "name": "document-front", "mimetype": "image/png", "size": 12}]}
    assert REDACTOR.json(media) == media
    names = {"images": [{"name": "Anna", "context": "Anna Smith"}], "searchTerm": {"name": "face", "status": "x"}}
    assert not texts_in(REDACTOR.json(names)) & {"Anna", "Anna Smith", "face", "x"}
    assert not texts_in(REDACTOR.json({"person": {"status": "Anna", "type": "Smith"}})) & {"Anna", "Smith"}


@pytest.mark.parametrize(
    "body",
    [
        {"userDefinedData": {"employer": {"status": "Annaliese"}}},
        {"comments": [{"author": {"type": "Annaliese"}}]},
        {"workplace": {"status": "Annaliese", "code": 39001010000}},
        {"workplace": {"document": {"type": "Annaliese"}}},
        {"code": 39001010000},
        {"code": "39001010000"},
        {"version": "390-010-100-00"},
        {"result": "1990-01-01"},
        {"country": "Annaliese"},
        {"country": {"value": "Annaliese"}},
        {"countries": ["EE", "Annaliese"]},
        {"lang": "Annaliese"},
    ],
)
def test_words_stay_only_where_and_as_veriff_has_them(body: dict[str, object]) -> None:
    """A value stays neither below a member that is not Veriff's, nor with the digits of a number of a person."""
    text = json.dumps(REDACTOR.json(body))
    for value in ("Annaliese", "39001010000", "390-010-100-00", "1990-01-01"):
        assert value not in text


def test_models_have_no_personal_field_that_stays() -> None:
    """Every text field of persons and documents is replaced, except for types and countries."""
    person = Person(first_name="Anna", last_name="Smith", id_number="39001010000", email="anna@example.com")
    document = Document(number="AB1234567", type=DocumentType.PASSPORT, country="EE")
    session_id = "ddf52000-8064-455c-a917-8bed8a41632c"
    decision = Decision(session_id=session_id, status=Status.APPROVED, person=person, document=document)
    line = write_entry({"x": REDACTOR.json(to_json(decision))})
    for text in ("Anna", "Smith", "39001010000", "AB1234567", "ddf52000"):
        assert text.encode() not in line
    assert b'"PASSPORT"' in line
