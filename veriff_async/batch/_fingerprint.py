"""Tell whether a job is the one that was given before: digests of what it says and of its files."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from typing import TYPE_CHECKING, cast

from veriff_async._media.prepare import check_arguments, error_context, inspect
from veriff_async._media.source import PIECE, PathSource, reusable_source
from veriff_async._protocol.json.decode import dump
from veriff_async._protocol.session_request import CreateOptions, create_body
from veriff_async.batch._records import FileFingerprint, JobRecord, JobState, MediaRecord
from veriff_async.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async._media.source import Source
    from veriff_async.batch.job import Job
    from veriff_async.models.media import Media

__all__ = ("is_same_input", "prepare_record", "session_options", "unprepared_record")

_UP: frozenset[JobState] = frozenset({JobState.SUBMITTING, JobState.SUBMITTED, JobState.DECIDED})
"""Where nothing is uploaded any more, so that the files need not be there."""


def session_options(job: Job) -> CreateOptions:
    """Return what the session is made with: the job's options, and its id as ``vendor_data`` unless they have one."""
    return cast("CreateOptions", {"vendor_data": job.id, **job.options})


def prepare_record(job: Job, known: JobRecord | None) -> JobRecord:
    """Look at a job and its files, and return the record that it begins with. Blocking.

    Args:
        job: The job.
        known: What was written of it; files that nobody will read again may be gone since.

    Raises:
        MediaError: A file that is still to be uploaded is missing, or nothing that Veriff takes.
        InvalidArgumentError: An option would be refused.
    """
    check_arguments(job.media)
    said = {
        "session": create_body(session_options(job)),
        "media": [
            [one.context, one.mimetype, one.timestamp and one.timestamp.isoformat(), one.max_side] for one in job.media
        ],
    }
    earlier = [None] * len(job.media) if known is None else list(known.media)
    is_over = known is not None and known.retry().state in _UP
    stamps: list[FileFingerprint | None] = []
    for index, (one, was) in enumerate(_beside(job.media, earlier)):
        with error_context(index, one):
            stamps.append(_stamp(one, was, is_over=is_over))
    media = [
        MediaRecord(context=str(one.context), fingerprint=at, resized=one.max_side is not None)
        for one, at in zip(job.media, stamps, strict=True)
    ]
    return JobRecord(job_id=job.id, options_digest=hashlib.sha256(dump(said)).hexdigest(), media=tuple(media))


def unprepared_record(job: Job) -> JobRecord:
    """Return the record of a job that cannot be read as it was given."""
    return JobRecord(
        job_id=job.id, options_digest="", media=tuple(MediaRecord(context=str(one.context)) for one in job.media)
    )


def is_same_input(record: JobRecord, now: JobRecord) -> bool:
    """Tell whether a job is what it was; what cannot be read twice or is gone cannot tell."""
    if record.options_digest != now.options_digest or len(record.media) != len(now.media):
        return False
    pairs = [(was.fingerprint, one.fingerprint) for was, one in zip(record.media, now.media, strict=True)]
    if record.session_id is None:  # nothing is up, so a file that has come since is another input
        return all(_content(was) == _content(one) for was, one in pairs)
    return all(was is None or one is None or _content(was) == _content(one) for was, one in pairs)


def _content(stamp: FileFingerprint | None) -> str | None:
    return None if stamp is None else stamp.sha256


def _beside(
    media: tuple[Media, ...], earlier: list[MediaRecord] | list[None]
) -> Iterator[tuple[Media, MediaRecord | None]]:
    for place, one in enumerate(media):
        yield one, earlier[place] if place < len(earlier) else None


def _stamp(media: Media, known: MediaRecord | None, *, is_over: bool) -> FileFingerprint | None:
    before = None if known is None else known.fingerprint
    if not is_over and (known is None or known.media_id is None):
        return _seen(media, before, is_new=True)
    try:
        return _seen(media, before, is_new=False)
    except MediaError:
        return before


def _seen(media: Media, before: FileFingerprint | None, *, is_new: bool) -> FileFingerprint | None:
    source = reusable_source(media.source)
    if source is None:
        return None
    if is_new:
        inspect(media, source)  # so that nothing is created for a picture that would be refused
    written = os.stat(source.path).st_mtime_ns if isinstance(source, PathSource) else None  # noqa: PTH116
    if before is not None and written is not None and (before.size, before.mtime_ns) == (source.size, written):
        return before
    return FileFingerprint(size=source.size, mtime_ns=written, sha256=_digest(source))


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    piece = memoryview(bytearray(min(PIECE, source.size)))
    with closing(source.open()) as reader:
        while count := reader.fill(piece):
            digest.update(piece[:count])
    return digest.hexdigest()
