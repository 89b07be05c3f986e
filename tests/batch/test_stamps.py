"""Stamps: the same job is known again without reading what cannot have changed, and any change is seen."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import InvalidArgumentError, Media, MediaError, MediaUnsupportedError, Person
from veriff_async.batch import Job, JobState
from veriff_async.batch._fingerprint import is_same_input, prepare_record, session_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from veriff_async.models.media import MediaSource

PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"


async def stream() -> AsyncIterator[bytes]:
    """Give the picture once."""
    yield PICTURE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a picture in a file."""
    path = tmp_path / "face.jpg"
    path.write_bytes(PICTURE)
    return path


def job(source: MediaSource) -> Job:
    """Return a job of one picture."""
    return Job("user-42", [Media(source, "face")])


def test_the_same_bytes_are_the_same_wherever_they_are(path: Path) -> None:
    """A file, a copy of it, bytes, a buffer and an open file of one content have one digest."""
    with path.open("rb") as file:
        sources: list[MediaSource] = [path, str(path), PICTURE, bytearray(PICTURE), memoryview(PICTURE), file]
        sources.append(io.BytesIO(PICTURE))
        records = [prepare_record(job(source), None) for source in sources]

    assert 1 == len({record.media[0].fingerprint.sha256 for record in records if record.media[0].fingerprint})
    assert all(is_same_input(records[0], record) for record in records)


def test_a_file_of_the_same_size_and_time_is_not_read_again(path: Path) -> None:
    """As `make` does it; another time alone is looked into, and is no change."""
    before = prepare_record(job(path), None)
    times = path.stat()
    path.write_bytes(PICTURE[:-2] + b"..")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert is_same_input(before, prepare_record(job(path), before))

    os.utime(path, ns=(0, 0))
    assert not is_same_input(before, prepare_record(job(path), before))
    path.write_bytes(PICTURE)
    assert is_same_input(before, prepare_record(job(path), before))


def test_a_stream_cannot_be_compared(path: Path) -> None:
    """What can be read only once has no stamp; with a session it passes for the same, before that for another."""
    before = prepare_record(job(stream()), None)

    assert before.media[0].fingerprint is None
    assert not is_same_input(before, prepare_record(job(path), before))
    assert is_same_input(before.with_session("8f0d1ab6"), prepare_record(job(path), before))


@pytest.mark.parametrize("state", [JobState.SUBMITTING, JobState.SUBMITTED, JobState.DECIDED])
def test_what_is_submitted_may_be_gone(path: Path, state: JobState) -> None:
    """Once nothing is uploaded any more, files need not be there, and nothing is said of their type."""
    before = prepare_record(job(path), None).with_session("8f0d1ab6").with_state(state)
    path.unlink()

    assert is_same_input(before, prepare_record(job(path), before))
    with pytest.raises(MediaError):
        prepare_record(job(path), before.with_state(JobState.UPLOADING))
    assert is_same_input(before, prepare_record(job(path), before.with_state(JobState.UPLOADING).with_media_id(0, "m")))


def test_what_is_said_of_media_counts() -> None:
    """Another context, size to scale to, or type under the same id is another input."""
    before = prepare_record(job(PICTURE), None)

    for media in (
        Media(PICTURE, "document-front"),
        Media(PICTURE, "face", max_side=500),
        Media(PICTURE, "face", mimetype="image/jpeg"),
    ):
        assert not is_same_input(before, prepare_record(Job("user-42", [media]), None))


def test_what_would_be_refused_is_found_before() -> None:
    """A picture of no known type and an option that Veriff does not take cost no session."""
    with pytest.raises(MediaUnsupportedError):
        prepare_record(job(b"GIF89a" + bytes(100)), None)
    with pytest.raises(InvalidArgumentError):
        prepare_record(Job("user-42", [Media(PICTURE, "face", max_side=0)]), None)
    with pytest.raises(InvalidArgumentError):
        prepare_record(Job("user-42", [Media(PICTURE, "face")], callback="http://insecure.example"), None)


def test_the_id_becomes_the_vendor_data() -> None:
    """A session can be found by its job, unless the options say otherwise."""
    other = Job("user-42", [Media(PICTURE, "face")], vendor_data="42", person=Person(first_name="Ada"))

    assert "user-42" == session_options(job(PICTURE)).get("vendor_data")
    assert "42" == session_options(other).get("vendor_data")
    assert "Ada" not in repr(other)
