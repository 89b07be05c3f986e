"""Records: what is written is read again, and what is no record says so."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from veriff_async import VeriffError
from veriff_async._protocol.json.decode import UnreadableError
from veriff_async.batch import Failure, JobRecord, MediaRecord, Stamp, Step
from veriff_async.batch._records import dump_record, load_record
from veriff_async.models import MediaFile
from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.testing import strategy_for

TEXTS: Final = st.text(max_size=20)
STAMPS: Final = st.builds(
    Stamp, size=st.integers(1, 2**40), written=st.none() | st.integers(0, 2**62), digest=st.text("0123456789abcdef")
)
MEDIA: Final = st.builds(
    MediaRecord,
    context=TEXTS,
    stamp=st.none() | STAMPS,
    scaled=st.booleans(),
    begun=st.booleans(),
    media_id=st.none() | TEXTS,
)
RECORDS: Final = st.builds(
    JobRecord,
    job_id=TEXTS,
    step=st.sampled_from(Step),
    options=TEXTS,
    media=st.lists(MEDIA, max_size=4).map(tuple),
    session_id=st.none() | TEXTS,
    decision=st.none() | strategy_for(Decision),
    failure=st.none() | st.builds(Failure, kind=TEXTS, message=TEXTS, at=st.sampled_from(Step)),
)


@given(RECORDS)
def test_what_is_written_is_read_again(record: JobRecord) -> None:
    """Every record survives the journal, its decision as an equal model."""
    assert record == load_record(dump_record(record))


@given(RECORDS, st.data())
def test_what_is_cut_or_spliced_is_told(record: JobRecord, data: st.DataObject) -> None:
    """Any bytes are a record or an UnreadableError, never another exception."""
    whole = dump_record(record)
    place, other = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=8))
    with suppress(UnreadableError):
        load_record(whole[:place] + other + whole[place + data.draw(st.integers(0, 4)) :])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id":"a","options":"","step":"lost","media":[]}',
        b'{"id":"a","options":"","step":"new","media":[{"context":"face","stamp":[1]}]}',
        b'{"id":"a","options":"","step":"new","media":[],"failure":["a"]}',
        b'{"id":"a","options":"","step":"new","media":[],"decision":[]}',
    ],
)
def test_what_is_no_record_is_told(text: bytes) -> None:
    """Another program's bytes are not taken for a record."""
    with pytest.raises(UnreadableError):
        load_record(text)


def test_the_source_of_a_decision_is_kept() -> None:
    """How a decision was learned of is told after a restart too."""
    decision = Decision(session_id="8f0d1ab6", status="approved", source=DecisionSource.WEBHOOK)  # type: ignore[arg-type]
    found = load_record(dump_record(record(Step.SUBMITTED).decided(decision))).decision

    assert found is not None
    assert DecisionSource.WEBHOOK is found.source


def record(step: Step, *media: MediaRecord) -> JobRecord:
    """Return a record of a job with a session."""
    return JobRecord(job_id="user-42", step=step, options="", media=media, session_id="8f0d1ab6")


def shown(context: str, size: int, *, begun: bool = True, media_id: str | None = None) -> MediaRecord:
    """Return what is written of a media."""
    return MediaRecord(context=context, stamp=Stamp(size=size, digest=f"{size:02x}"), begun=begun, media_id=media_id)


def held(media_id: str, context: str, size: int | None) -> MediaFile:
    """Return what Veriff tells of a media."""
    return MediaFile(id=media_id, context=context, size=size)  # type: ignore[arg-type]


def test_uploads_whose_answer_was_lost_are_found() -> None:
    """What was begun is known by what it shows and its size; each file that Veriff holds stands for one of them."""
    before = record(
        Step.UPLOADING,
        shown("face", 10, media_id="known"),
        shown("face", 10),
        shown("face", 20),
        shown("document-front", 30),
        shown("document-back", 40, begun=False),
        MediaRecord(context="document-back-2", begun=True),
    )
    after = before.found(
        [
            held("known", "face", 10),
            held("a", "face", 20),
            held("b", "document-front", 31),
            held("c", "document-back", 40),
            held("d", "document-back-2", 7),
            held("e", "face", None),
        ]
    )

    assert ["known", "e", "a", None, None, "d"] == [one.media_id for one in after.media]
    assert (3, 4) == after.missing


def test_a_doubt_is_settled_by_another_upload() -> None:
    """When fewer files are held than were begun alike, none is taken for up, unless their bytes are the same."""
    pair = [shown("face", 10), evolve(shown("face", 10), stamp=Stamp(size=10, digest="1f"))]
    stream, small = MediaRecord(context="face", begun=True), evolve(shown("face", 10), scaled=True)
    one = [held("a", "face", 10)]

    assert (0, 1) == record(Step.UPLOADING, *pair).found(one).missing
    assert (0, 1) == record(Step.UPLOADING, stream, shown("face", 10)).found(one).missing
    assert (0, 1) == record(Step.UPLOADING, shown("face", 10), shown("face", 20)).found(
        [held("a", "face", None)]
    ).missing
    assert (1,) == record(Step.UPLOADING, shown("face", 10), shown("face", 10)).found(one).missing
    assert () == record(Step.UPLOADING, small).found([held("a", "face", 3)]).missing


def test_a_failed_job_goes_on_at_the_step_that_failed() -> None:
    """Trying again forgets the failure, and begins where it happened."""
    failed = record(Step.SUBMITTING).failed(VeriffError("It is closed."))

    assert Failure(kind="VeriffError", message="It is closed.", at=Step.SUBMITTING) == failed.failure
    assert record(Step.SUBMITTING) == failed.again()
    assert record(Step.SUBMITTED) == record(Step.SUBMITTED).again()
