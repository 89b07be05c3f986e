"""Open enums: a word that is newer than the library is as good as a known one."""

from __future__ import annotations

import copy
import json
import pickle
from typing import cast

import pytest
from hypothesis import given, strategies as st

from veriff_async import DocumentType, MediaContext, Status
from veriff_async.models.enums import Gender, OpenEnum

KINDS = (Status, MediaContext, DocumentType, Gender)
kinds = pytest.mark.parametrize("kind", KINDS)
words = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), st.sampled_from(kind) | st.text()))


@given(words)
def test_member_equals_its_string(drawn: tuple[type[OpenEnum], str]) -> None:
    """Known or not, a member equals, hashes, prints and formats as its string, and is written so in JSON."""
    kind, text = drawn
    word = str(text)
    member = kind(word)

    assert word == member
    assert hash(word) == hash(member)
    assert (word, word) == (str(member), f"{member}")
    assert json.dumps(word) == json.dumps(member)
    assert {word: 1} == {member: 1}


@given(words)
def test_member_survives_pickling_and_copying(drawn: tuple[type[OpenEnum], str]) -> None:
    """Pickled or copied, a member stays a member of its kind and equal to itself."""
    kind, word = drawn
    member = kind(word)

    arrived: list[object] = [
        *(pickle.loads(pickle.dumps(member, protocol)) for protocol in range(2, 6)),  # noqa: S301  our own bytes
        copy.copy(member),
        copy.deepcopy(member),
    ]

    assert [member] * 6 == arrived
    assert {kind} == {type(each) for each in arrived}


@kinds
def test_unknown_words_are_not_added_to_the_enum(kind: type[OpenEnum]) -> None:
    """An unknown word does not change the class, and `known` distinguishes it from a known word."""
    before = list(kind)
    member = kind("newer-than-the-library")

    assert not member.known
    assert "newer-than-the-library" == member.name
    assert all(each.known for each in kind)
    assert before == list(kind)


@kinds
@pytest.mark.parametrize("value", [None, 1, b"approved!", ["approved"]])
def test_only_strings_are_accepted(kind: type[OpenEnum], value: object) -> None:
    """A value that is not a string is refused."""
    with pytest.raises(ValueError, match="is not a valid"):
        kind(cast("str", value))


@given(st.sampled_from(KINDS), st.text())
def test_the_known_words_are_the_same_objects(kind: type[OpenEnum], word: str) -> None:
    """A known word is one object, so that it can be compared by identity; an unknown one is equal each time."""
    assert all(kind(str(member)) is member for member in kind)
    assert kind(word) == kind(word)
