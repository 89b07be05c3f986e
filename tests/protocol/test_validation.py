"""Values of requests: accepted as Veriff accepts them, or refused by name and without being shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from veriff_async import Document, DocumentType, InvalidArgumentError, Person
from veriff_async._protocol.validation import (
    check_callback,
    check_document,
    check_end_user_id,
    check_id,
    check_person,
    check_vendor_data,
)
from veriff_async.models.enums import Gender

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from uuid import UUID

CANARY = "Canary-7f3a"
END_USER = "f04bdb47-d3be-4b28-b028-a652feb060b5"
# Things of other types than the documented one, as callers without a type checker give them.
STRANGE = (1, 1.5, b"bytes", ["list"], object())

# name of the field -> how it is given, what is refused
REFUSED: dict[str, tuple[Callable[[object], object], tuple[object, ...]]] = {
    "session_id": (
        lambda value: check_id("session_id", value),
        ("", "a/b", "..", "a b", "id\n", "\u0665", "x" * 65, "%2e", f"{CANARY}?", None, *STRANGE),
    ),
    "vendor_data": (check_vendor_data, ("x" * 1001, CANARY * 100, None, *STRANGE)),
    "end_user_id": (
        lambda value: check_end_user_id(cast("str", value)),
        ("", f"{CANARY}\n", f"\0{CANARY}", None, *STRANGE),
    ),
    "callback": (
        lambda value: check_callback(cast("str", value)),
        (
            "",
            CANARY,
            f"http://example.com/{CANARY}",
            f"app://{CANARY}",
            "https://",
            "https:///path",
            "//example.com",
            f"https://[{CANARY}",
            f"https://example.com/{CANARY}\n",
            f" https://example.com/{CANARY}",
            f"https://example.com/{CANARY} more",
            None,
            *STRANGE,
        ),
    ),
    "person.date_of_birth": (
        lambda value: check_person(Person(date_of_birth=cast("str", value))),
        ("", CANARY, "1990-02-30", "0000-01-01", "1990-1-1", "19900101", "1990-01-01T00:00", "1990-01-01\n", *STRANGE),
    ),
    "person.gender": (
        lambda value: check_person(Person(gender=cast("Gender", value))),
        ("", CANARY, "m", "X", Gender("X"), 1, b"M"),
    ),
    "document.type": (
        lambda value: check_document(Document(type=cast("DocumentType", value))),
        ("", CANARY, "passport", DocumentType.OTHER, DocumentType("NEWER"), *STRANGE),
    ),
    "document.country": (
        lambda value: check_document(Document(country=cast("str", value))),
        ("", CANARY, "ee", "EST", "E", "ÕÄ", "EE\n", *STRANGE),
    ),
    "document.number": (
        lambda value: check_document(Document(number=cast("str", value))),
        ("", CANARY, "AB 12", "AB-12", "\u0665", "AB12\n", *STRANGE),
    ),
    "document.id_card_type": (
        lambda value: check_document(Document(id_card_type=cast("str", value))),
        ("", CANARY, "C1", "Õ", "CC\n", *STRANGE),
    ),
    "document.first_issue": (
        lambda value: check_document(Document(first_issue=cast("str", value))),
        ("", CANARY, "2020-13-01", "01.02.2020", *STRANGE),
    ),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{at}")
        for name, (_, values) in REFUSED.items()
        for at, value in enumerate(values)
    ],
)
def test_refusals_name_the_field_and_hide_the_value(name: str, value: object) -> None:
    """A value that Veriff would refuse raises an error with the field, without the value, and with no cause."""
    with pytest.raises(InvalidArgumentError, match=rf"^{name} cannot be sent: .*\.$") as caught:
        REFUSED[name][0](value)

    assert CANARY not in repr(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_ids_of_any_form_can_stand_in_a_path(value: str) -> None:
    """An id of any form and version is accepted as Veriff wrote it."""
    assert value == check_id("session_id", value)


@given(st.text(max_size=1000))
def test_vendor_data_is_any_text(value: str) -> None:
    """Up to a thousand characters of any text are vendor data."""
    assert value == check_vendor_data(value)


def test_error_states_the_length_of_vendor_data() -> None:
    """The refusal of a text that is too long says how long it is and may be."""
    with pytest.raises(InvalidArgumentError, match="it has 1001 characters, Veriff takes 1000"):
        check_vendor_data("x" * 1001)


@given(st.uuids())
def test_end_users_are_uuids(value: UUID) -> None:
    """A UUID and its text, in either case, are the same end-user."""
    assert {str(value)} == {check_end_user_id(form) for form in (value, str(value), str(value).upper())}


@pytest.mark.parametrize("value", ["https://example.com", "https://example.com:8443/path?query=1#end", "https://õ.ee/"])
def test_callbacks_are_https_addresses(value: str) -> None:
    """An absolute https address is sent as it was given."""
    assert value == check_callback(value)


@given(st.dates(), st.sampled_from(["M", "MALE", "F", "FEMALE", *Gender]))
def test_people_with_real_dates_are_taken(born: date, gender: str) -> None:
    """Every date that exists, and each documented gender, as text or member, is taken."""
    person = Person(first_name=CANARY, date_of_birth=born.isoformat(), gender=cast("Gender", gender))

    assert person is check_person(person)


@given(st.sampled_from([kind for kind in DocumentType if kind != "OTHER"]), st.dates())
def test_documents_with_documented_values_are_taken(kind: DocumentType, issued: date) -> None:
    """Each document type that requests may name is accepted, as text or member, together with well-formed fields."""
    document = Document(type=kind, country="EE", number="AB0123456", id_card_type="CC", first_issue=issued.isoformat())

    assert document is check_document(document)
    assert document == check_document(evolve(document, type=cast("DocumentType", str(kind))))


def test_absent_values_are_not_checked() -> None:
    """A person or document without any field is taken."""
    assert Person() == check_person(Person())
    assert Document() == check_document(Document())
