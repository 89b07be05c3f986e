"""Records: each survives the journal unchanged, and damaged bytes are refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from veriff_async import JournalError, VeriffError
from veriff_async.batch import FileFingerprint, JobFailure, JobRecord, JobState, MediaRecord, dump_record, load_record
from veriff_async.models import MediaFile
from veriff_async.models.decision import Decision
from veriff_async.models.decision_source import DecisionSource
from veriff_async.testing import strategy_for

TEXTS: Final = st.text(max_size=20)
STAMPS: Final = st.builds(
    FileFingerprint,
    size=st.integers(1, 2**40),
    mtime_ns=st.none() | st.integers(0, 2**62),
    sha256=st.text("0123456789abcdef"),
)
MEDIA: Final = st.builds(
    MediaRecord,
    context=TEXTS,
    fingerprint=st.none() | STAMPS,
    converted=st.booleans(),
    upload_started=st.booleans(),
    media_id=st.none() | TEXTS,
)
RECORDS: Final = st.builds(
    JobRecord,
    job_id=TEXTS,
    state=st.sampled_from(JobState),
    options_digest=TEXTS,
    media=st.lists(MEDIA, max_size=4).map(tuple),
    session_id=st.none() | TEXTS,
    decision=st.none() | strategy_for(Decision),
    failure=st.none() | st.builds(JobFailure, error_type=TEXTS, message=TEXTS, state=st.sampled_from(JobState)),
)


@given(RECORDS)
def test_record_survives_the_journal(record: JobRecord) -> None:
    """Every record survives the journal, its decision as an equal model."""
    assert record == load_record(dump_record(record))


@given(RECORDS, st.data())
def test_damaged_bytes_are_refused(record: JobRecord, data: st.DataObject) -> None:
    """Any bytes are a record or a JournalError, never another exception."""
    whole = dump_record(record)
    place, other = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=8))
    with suppress(JournalError):
        load_record(whole[:place] + other + whole[place + data.draw(st.integers(0, 4)) :])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"job_id":"a","options_digest":"","state":"lost","media":[]}',
        b'{"job_id":"a","options_digest":"","state":"new","media":[{"context":"face","fingerprint":[1]}]}',
        b'{"job_id":"a","options_digest":"","state":"new","media":[{"context":"face","converted":1}]}',
        b'{"job_id":"a","options_digest":"","state":"new","media":[],"failure":["a"]}',
        b'{"job_id":"a","options_digest":"","state":"new","media":[],"decision":[]}',
        b'{"job_id":"a","options_digest":"","state":"new","media":{}}',
        b'{"job_id":"a","options_digest":"","state":"new","media":[],"from_a_newer_version":1}',
    ],
)
def test_unexpected_members_are_refused(text: bytes) -> None:
    """JSON with unexpected members is not a record."""
    with pytest.raises(JournalError):
        load_record(text)


def test_source_of_a_decision_is_saved() -> None:
    """A decision keeps its source after a restart."""
    decision = Decision(session_id="8f0d1ab6", status="approved", source=DecisionSource.WEBHOOK)  # type: ignore[arg-type]
    found = load_record(dump_record(record(JobState.SUBMITTED).with_decision(decision))).decision

    assert found is not None
    assert DecisionSource.WEBHOOK is found.source


def record(state: JobState, *media: MediaRecord) -> JobRecord:
    """Return a record of a job with a session."""
    return JobRecord(job_id="user-42", state=state, options_digest="", media=media, session_id="8f0d1ab6")


def media_record(context: str, size: int, *, begun: bool = True, media_id: str | None = None) -> MediaRecord:
    """Return the record of a media."""
    return MediaRecord(
        context=context,
        fingerprint=FileFingerprint(size=size, sha256=f"{size:02x}"),
        upload_started=begun,
        media_id=media_id,
    )


def media_file(media_id: str, context: str, size: int | None) -> MediaFile:
    """Return a media of Veriff's list."""
    return MediaFile(id=media_id, context=context, size=size)  # type: ignore[arg-type]


def test_uploads_with_lost_responses_are_recognized() -> None:
    """Started uploads are recognized by context and size; each file of Veriff counts for one of them."""
    before = record(
        JobState.UPLOADING,
        media_record("face", 10, media_id="known"),
        media_record("face", 10),
        media_record("face", 20),
        media_record("document-front", 30),
        media_record("document-back", 40, begun=False),
        MediaRecord(context="document-back-2", upload_started=True),
    )
    after = before.with_uploaded(
        [
            media_file("known", "face", 10),
            media_file("a", "face", 20),
            media_file("b", "document-front", 31),
            media_file("c", "document-back", 40),
            media_file("d", "document-back-2", 7),
            media_file("e", "face", None),
        ]
    )

    assert ["known", "e", "a", None, None, "d"] == [one.media_id for one in after.media]
    assert (3, 4) == after.missing_indexes


def test_ambiguous_uploads_are_repeated() -> None:
    """If Veriff has fewer files than equal uploads, they are repeated unless their bytes are the same."""
    pair = [
        media_record("face", 10),
        evolve(media_record("face", 10), fingerprint=FileFingerprint(size=10, sha256="1f")),
    ]
    stream, small = MediaRecord(context="face", upload_started=True), evolve(media_record("face", 10), converted=True)
    one = [media_file("a", "face", 10)]

    assert (0, 1) == record(JobState.UPLOADING, *pair).with_uploaded(one).missing_indexes
    assert (0, 1) == record(JobState.UPLOADING, stream, media_record("face", 10)).with_uploaded(one).missing_indexes
    assert (0, 1) == record(JobState.UPLOADING, media_record("face", 10), media_record("face", 20)).with_uploaded(
        [media_file("a", "face", None)]
    ).missing_indexes
    assert (1,) == record(JobState.UPLOADING, media_record("face", 10), media_record("face", 10)).with_uploaded(
        one
    ).missing_indexes
    assert () == record(JobState.UPLOADING, small).with_uploaded([media_file("a", "face", 3)]).missing_indexes


def test_failed_job_resumes_in_the_state_that_failed() -> None:
    """A retry drops the failure and keeps the state in which it happened."""
    failed = record(JobState.SUBMITTING).with_failure(VeriffError("It is closed."))

    assert JobFailure(error_type="VeriffError", message="It is closed.", state=JobState.SUBMITTING) == failed.failure
    assert record(JobState.SUBMITTING) == failed.retry()
    assert record(JobState.SUBMITTED) == record(JobState.SUBMITTED).retry()
