"""Prepares a job: checks its input, fingerprints its files, and signs what is to be uploaded, in one read per file.

The journal identifies a job by its id, and recognises a changed job by two digests: one of the session's options and
the media's arguments, and one of the bytes of each file. A batch reads a file twice in all. This module makes the first
pass, which feeds the digest and the signature of the upload together; sending is the second pass. A file whose size and
modification time are those of the journal is not digested again, so its upload is signed when it is sent.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final, cast

from attrs import define

from veriff_async._media.prepare import PendingUpload, check_arguments, error_context, open_and_inspect
from veriff_async._media.source import PIECE, BytesSource, reusable_source
from veriff_async._media.stream_body import sign
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.media_rules import may_convert
from veriff_async._protocol.session_request import CreateOptions, create_body
from veriff_async.batch._records import FileFingerprint, JobRecord, JobState, MediaRecord
from veriff_async.errors import MediaError

if TYPE_CHECKING:
    from veriff_async._media.source import Source, SourceOpener
    from veriff_async.batch.job import Job
    from veriff_async.credentials import Credentials
    from veriff_async.models.media import Media, MediaSource

__all__ = ("PreparedJob", "is_same_input", "prepare_job", "session_options", "unprepared_record")

# States in which nothing is uploaded any more, so that the files may be gone.
_UPLOADED_STATES: Final = frozenset({JobState.SUBMITTING, JobState.SUBMITTED, JobState.DECIDED})


@define
class PreparedJob:
    """A job whose files have been read."""

    record: JobRecord
    uploads: dict[int, PendingUpload]


def session_options(job: Job) -> CreateOptions:
    """Return the options of the job's session, with the job's id as ``vendor_data`` unless they have one."""
    return cast("CreateOptions", {"vendor_data": job.id, **job.options})


def prepare_job(job: Job, previous: JobRecord | None, credentials: Credentials, opener: SourceOpener) -> PreparedJob:
    """Check a job and read its files. Blocking.

    Args:
        job: The job.
        previous: The record in the journal. Files that it says are uploaded need not exist any more.
        credentials: The credentials to sign uploads with.
        opener: Opens the files of the client that uploads them.

    Raises:
        MediaError: A file that is still to be uploaded is missing, or Veriff does not accept it.
        InvalidArgumentError: Veriff would refuse an option or an argument of a media.
    """
    check_arguments(job.media)
    described = {
        "session": create_body(session_options(job)),
        "media": [
            [
                *(media.context, media.mimetype, media.timestamp and media.timestamp.isoformat()),
                *(media.max_side, media.max_bytes, media.convert),
            ]
            for media in job.media
        ],
    }
    saved = () if previous is None else previous.media
    needs_uploads = previous is None or previous.retry().state not in _UPLOADED_STATES
    records: list[MediaRecord] = []
    uploads: dict[int, PendingUpload] = {}
    with ExitStack() as opened:
        for index, media in enumerate(job.media):
            known = saved[index] if index < len(saved) else None
            fingerprint = None if known is None else known.fingerprint
            with error_context(index, media):
                if needs_uploads and (known is None or known.media_id is None):
                    upload = uploads[index] = PendingUpload(index, media)
                    opened.callback(upload.close)
                    fingerprint = _prepare_upload(upload, fingerprint, credentials, opener)
                else:
                    fingerprint = _compare(media, fingerprint)
            converted = may_convert(media)
            records.append(MediaRecord(context=str(media.context), fingerprint=fingerprint, converted=converted))
        opened.pop_all()  # they stay open, because all are prepared
    options_digest = hashlib.sha256(dump(described)).hexdigest()
    record = JobRecord(
        job_id=job.id,
        options_digest=options_digest,
        media=tuple(records),
        creations=0 if previous is None else previous.creations,
    )
    return PreparedJob(record, uploads)


def unprepared_record(job: Job) -> JobRecord:
    """Return the record of a job that cannot be prepared."""
    media = tuple([MediaRecord(context=str(media.context)) for media in job.media])
    # The empty digest differs from every real one, so the next run takes the job as changed and prepares it again.
    return JobRecord(job_id=job.id, options_digest="", media=media)


def is_same_input(previous: JobRecord, current: JobRecord) -> bool:
    """Return whether a job has the same input as before, as far as its files can still be compared."""
    if previous.options_digest != current.options_digest or len(previous.media) != len(current.media):
        return False
    for before, after in zip(previous.media, current.media, strict=True):
        old, new = before.fingerprint, after.fingerprint
        if old is None or new is None:
            # A stream or a deleted file cannot be compared. That matters only as long as nothing is uploaded: then a
            # file in the place of a stream is other input.
            if previous.session_id is None and old is not new:
                return False
        elif old.sha256 != new.sha256:
            return False
    return True


def _prepare_upload(
    upload: PendingUpload, known: FileFingerprint | None, credentials: Credentials, opener: SourceOpener
) -> FileFingerprint | None:
    """Make the first pass over a media, and return its fingerprint, or ``None`` for a stream."""
    media = upload.media
    mtime_ns = _mtime_ns(media.source)  # before the bytes are read, so that a later change shows
    prepared = upload.prepared = open_and_inspect(media, opener)
    if prepared is None:
        return None
    source = prepared.source
    if _is_unchanged(known, source, mtime_ns):
        return known
    # A converted picture is signed afterwards.
    if may_convert(media):
        return FileFingerprint(size=source.size, mtime_ns=mtime_ns, sha256=_hash(source))
    digest = hashlib.sha256()
    if isinstance(source, BytesSource) and source.constant:
        digest.update(source.view)  # at once: each call gives Python's lock back
        upload.signed = sign(prepared, credentials)
    else:
        upload.signed = sign(prepared, credentials, digest=digest)
    return FileFingerprint(size=source.size, mtime_ns=mtime_ns, sha256=digest.hexdigest())


def _compare(media: Media, known: FileFingerprint | None) -> FileFingerprint | None:
    """Return the fingerprint of a media that is uploaded, or the known one if it cannot be read any more."""
    try:
        mtime_ns = _mtime_ns(media.source)
        source = reusable_source(media.source)
        if source is None:
            return None
        if _is_unchanged(known, source, mtime_ns):
            return known
        return FileFingerprint(size=source.size, mtime_ns=mtime_ns, sha256=_hash(source))
    except MediaError:
        return known


def _is_unchanged(known: FileFingerprint | None, source: Source, mtime_ns: int | None) -> bool:
    # As `make` decides it: reading every file of a large batch again would take longer than resuming it.
    return known is not None and mtime_ns is not None and (known.size, known.mtime_ns) == (source.size, mtime_ns)


def _mtime_ns(source: MediaSource) -> int | None:
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        return os.stat(source).st_mtime_ns  # noqa: PTH116  a path may be any os.PathLike
    except (OSError, ValueError):  # `reusable_source` raises the right error
        return None


def _hash(source: Source) -> str:
    if isinstance(source, BytesSource):
        return hashlib.sha256(source.view).hexdigest()
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(PIECE, source.size)))
    with closing(source.open()) as reader:
        while count := reader.fill(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
