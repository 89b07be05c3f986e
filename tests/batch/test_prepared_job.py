"""Prepared jobs: each file is read once to prepare and once to send, and every change of the input is noticed."""

from __future__ import annotations

import io
import os
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import anyio
import pytest
from anyio import to_thread
from PIL import Image

from tests.conditions import needs_posix
from veriff_async import (
    Credentials,
    InvalidArgumentError,
    Media,
    MediaChangedError,
    MediaError,
    MediaUnsupportedError,
    Person,
)
from veriff_async._media import prepare, source as source_module
from veriff_async._media.convert import convert
from veriff_async._media.source import SourceOpener
from veriff_async.batch import (
    InvalidRow,
    Job,
    JobRecord,
    JobState,
    ManifestRow,
    MemoryJournal,
    SqliteJournal,
    read_manifest,
    submit_many,
    verify_one,
)
from veriff_async.batch._prepared_job import is_same_input, prepare_job, session_options
from veriff_async.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from veriff_async import VeriffClient
    from veriff_async.models.media import MediaSource
    from veriff_async.sandbox import Sandbox

CREDENTIALS: Final = Credentials("key", "secret")
PICTURE: Final = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000) + b"\xff\xd9"
LARGE: Final = b"\xff\xd8\xff\xc0\x00\x11\x08\x02\x58\x03\x20"
"""The first bytes of a JPEG of 800 x 600 pixels."""

HEADERS: Final = 100_000
"""Bytes of a file that may be read once more, to detect its type and dimensions."""


async def stream() -> AsyncIterator[bytes]:
    """Yield the picture once."""
    yield PICTURE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a picture."""
    path = tmp_path / "face.jpg"
    path.write_bytes(PICTURE)
    return path


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how many bytes have been read of each file, by its inode."""
    counts = Counter[int]()
    preadv = os.preadv

    def count(descriptor: int, *args: Any) -> int:  # noqa: ANN401
        size = preadv(descriptor, *args)
        counts[os.fstat(descriptor).st_ino] += size
        return size

    class CountingFile(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            counts[os.fstat(self.fileno()).st_ino] += len(content)
            return content

    def open_counting(path: str, mode: str, *, buffering: int, opener: Callable[[str, int], int]) -> CountingFile:
        assert buffering == 0
        return CountingFile(path, mode, opener=opener)

    monkeypatch.setattr(os, "preadv", count)
    monkeypatch.setattr(source_module, "open", open_counting, raising=False)
    return counts


def record_of(job: Job, previous: JobRecord | None) -> JobRecord:
    """Return the record of a job with this input."""
    return prepare_job(job, previous, CREDENTIALS, SourceOpener()).record


def job(source: MediaSource) -> Job:
    """Return a job of one picture."""
    return Job("user-42", [Media(source, "face")])


def test_same_bytes_have_one_fingerprint(path: Path) -> None:
    """A file, its bytes, a buffer and an open file of the same content have the same digest."""
    with path.open("rb") as file:
        sources: list[MediaSource] = [path, str(path), PICTURE, bytearray(PICTURE), memoryview(PICTURE), file]
        sources.append(io.BytesIO(PICTURE))
        records = [record_of(job(source), None) for source in sources]

    assert 1 == len({record.media[0].fingerprint.sha256 for record in records if record.media[0].fingerprint})
    assert all(is_same_input(records[0], record) for record in records)


def test_unchanged_size_and_mtime_skip_the_digest(path: Path) -> None:
    """A file of the same size and time counts as unchanged; a new time alone does not change the input."""
    before = record_of(job(path), None)
    times = path.stat()
    path.write_bytes(PICTURE[:-2] + b"..")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert is_same_input(before, record_of(job(path), before))

    os.utime(path, ns=(0, 0))
    assert not is_same_input(before, record_of(job(path), before))
    path.write_bytes(PICTURE)
    assert is_same_input(before, record_of(job(path), before))


def test_stream_has_no_fingerprint(path: Path) -> None:
    """A stream cannot be compared: with a session it counts as the same input, before that as another."""
    before = record_of(job(stream()), None)

    assert before.media[0].fingerprint is None
    assert not is_same_input(before, record_of(job(path), before))
    assert is_same_input(before.with_session("8f0d1ab6"), record_of(job(path), before))


@pytest.mark.parametrize("state", [JobState.SUBMITTING, JobState.SUBMITTED, JobState.DECIDED])
def test_files_may_be_deleted_after_their_upload(path: Path, state: JobState) -> None:
    """Once nothing is uploaded any more, files need not exist."""
    before = record_of(job(path), None).with_session("8f0d1ab6").with_state(state)
    path.unlink()

    assert is_same_input(before, record_of(job(path), before))
    with pytest.raises(MediaError):
        record_of(job(path), before.with_state(JobState.UPLOADING))
    assert is_same_input(before, record_of(job(path), before.with_state(JobState.UPLOADING).with_media_id(0, "m")))


def test_arguments_of_media_are_input() -> None:
    """Another context, maximum side or type under the same id is other input."""
    before = record_of(job(PICTURE), None)

    for media in (
        Media(PICTURE, "document-front"),
        Media(PICTURE, "face", max_side=500),
        Media(PICTURE, "face", mimetype="image/jpeg"),
    ):
        assert not is_same_input(before, record_of(Job("user-42", [media]), None))


def test_refused_input_is_found_before_a_session_is_created() -> None:
    """A picture of an unknown type and an option that Veriff does not accept raise while the job is prepared."""
    with pytest.raises(MediaUnsupportedError):
        record_of(job(b"GIF89a" + bytes(100)), None)
    with pytest.raises(InvalidArgumentError):
        record_of(Job("user-42", [Media(PICTURE, "face", max_side=0)]), None)
    with pytest.raises(InvalidArgumentError):
        record_of(Job("user-42", [Media(PICTURE, "face")], callback="http://insecure.example"), None)


def test_id_becomes_vendor_data() -> None:
    """A session can be found by its job's id, unless the options have other vendor_data."""
    other = Job("user-42", [Media(PICTURE, "face")], vendor_data="42", person=Person(first_name="Ada"))

    assert "user-42" == session_options(job(PICTURE)).get("vendor_data")
    assert "42" == session_options(other).get("vendor_data")
    assert "Ada" not in repr(other)


@needs_posix
@pytest.mark.anyio
async def test_manifest_row_reads_each_file_twice(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path, bytes_read: Counter[int]
) -> None:
    """From manifest to submission, a large file is read once to prepare and once to send; a small one is read once."""
    sizes = {"front.jpg": 1_000_000, "back.jpg": 2_000_000, "small.jpg": 150_000}

    def read_rows() -> list[ManifestRow | InvalidRow]:
        for name, size in sizes.items():
            (tmp_path / name).write_bytes(LARGE.ljust(size, b"\0"))
        (tmp_path / "jobs.csv").write_text("id,document-front,document-back,face\n1,front.jpg,back.jpg,small.jpg\n")
        return list(read_manifest(tmp_path / "jobs.csv"))

    jobs = [row.job for row in await to_thread.run_sync(read_rows) if isinstance(row, ManifestRow)]
    async with SqliteJournal(tmp_path / "batch.db") as journal:
        assert [] == await submit_many(veriff, jobs, journal=journal)

    assert sorted(sizes.values()) == sorted(media.size for media in sandbox.sessions[0].media)
    for name, times in (("front.jpg", 2), ("back.jpg", 2), ("small.jpg", 1)):
        count = bytes_read[(await anyio.Path(tmp_path, name).stat()).st_ino]
        assert times * sizes[name] <= count <= times * sizes[name] + HEADERS, name


@pytest.mark.anyio
async def test_picture_with_a_maximum_side_is_decoded_once(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture that was resized to check it is the one that is sent."""
    await to_thread.run_sync(Image.new("RGB", (800, 600)).save, tmp_path / "front.jpg")
    decoded: list[Media] = []

    def count(*args: Any) -> bytes | None:  # noqa: ANN401
        decoded.append(args[-1])
        return convert(*args)

    monkeypatch.setattr(prepare, "convert", count)
    media = Media(tmp_path / "front.jpg", "document-front", max_side=400)

    result = await verify_one(veriff, Job("user-42", [media]), journal=MemoryJournal(), wait=False)

    assert JobState.SUBMITTED is result.state, result.error
    assert [media] == decoded
    content = await anyio.Path(sandbox.sessions[0].media[0].path).read_bytes()
    assert (400, 300) == Image.open(io.BytesIO(content)).size


@pytest.mark.anyio
async def test_file_that_changes_before_it_is_sent_fails_the_job(
    sandbox: Sandbox, veriff: VeriffClient, tmp_path: Path
) -> None:
    """The journal has the fingerprint of the first pass, so other bytes must not be sent under it."""
    path = anyio.Path(tmp_path, "face.jpg")
    await path.write_bytes(LARGE.ljust(500_000, b"\0"))

    class ChangingJournal(MemoryJournal):
        async def write(self, record: JobRecord) -> None:
            await super().write(record)
            if record.state is JobState.UPLOADING:
                await path.write_bytes(LARGE.ljust(500_000, b"1"))

    result = await verify_one(veriff, job(path), journal=ChangingJournal(), wait=False)

    assert isinstance(result.error, MediaChangedError)
    assert JobState.FAILED is result.state
    assert () == tuple(sandbox.sessions[0].media)


@pytest.mark.anyio
async def test_upload_is_prepared_again_after_a_failure(sandbox: Sandbox, veriff: VeriffClient, path: Path) -> None:
    """A job whose upload failed in one run is prepared and uploaded by the next."""
    journal = MemoryJournal()
    sandbox.inject(Fault.status(502), method="POST", path="/v1/sessions/*/media", times=20)
    assert JobState.UPLOADING is (await verify_one(veriff, job(path), journal=journal, wait=False)).state
    sandbox.clear_faults()

    assert JobState.SUBMITTED is (await verify_one(veriff, job(path), journal=journal, wait=False)).state
    assert ["face"] == [media.context for media in sandbox.sessions[0].media]
