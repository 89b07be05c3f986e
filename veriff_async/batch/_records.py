"""What a journal keeps of a job: where it stands, and how one step follows another. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from veriff_async._protocol.json.strict import dump_strict, load_strict
from veriff_async.errors import DecodeError, JournalError
from veriff_async.models.decision import Decision  # noqa: TC001  cattrs reads the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.errors import VeriffError
    from veriff_async.models.media import MediaFile

__all__ = ("FileFingerprint", "JobFailure", "JobRecord", "JobState", "MediaRecord", "dump_record", "load_record")

_UNKNOWN_SESSION: Final = ("BadRequestError", "NotFoundError")
"""Classes of the errors with which Veriff refuses an id: 400 with code 1001 or 1002, or 404."""


class JobState(StrEnum):
    """Where a job stands. What ends in ``ing`` was begun, and is not known to be done."""

    NEW = "new"
    CREATING = "creating"
    UNKNOWN = "unknown"  # the request left, and no answer came: a session may exist
    CREATED = "created"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    DECIDED = "decided"
    FAILED = "failed"


@frozen(kw_only=True)
class FileFingerprint:
    """What tells the bytes of a file from others.

    Attributes:
        size: Bytes.
        mtime_ns: When it was last written to, in nanoseconds, where that is known: the same size and time need no
            reading.
        sha256: SHA-256 of the bytes, in hexadecimal.
    """

    size: int
    mtime_ns: int | None = None
    sha256: str


@frozen(kw_only=True)
class MediaRecord:
    """One media of a job.

    Attributes:
        context: What it shows.
        fingerprint: What its bytes were, or ``None`` for a stream, which can be read only once.
        resized: Whether it is made smaller on its way, so that Veriff tells another size.
        upload_started: Whether its upload was begun, so that Veriff may hold it.
        media_id: Veriff's id of it, once it is up.
    """

    context: str
    fingerprint: FileFingerprint | None = None
    resized: bool = False
    upload_started: bool = False
    media_id: str | None = None

    @property
    def expected_size(self) -> int | None:
        """The size that Veriff tells of it, where that is known beforehand."""
        return None if self.fingerprint is None or self.resized else self.fingerprint.size


@frozen(kw_only=True)
class JobFailure:
    """Why a job failed for good.

    Attributes:
        error_type: Name of the error's class, for example ``"MediaEmptyError"``.
        message: Its sentence.
        state: The step that failed.
    """

    error_type: str
    message: str
    state: JobState


@frozen(kw_only=True)
class JobRecord:
    """What is known of a job.

    Attributes:
        job_id: The job.
        state: Where it stands.
        options_digest: SHA-256 of what the session is made with and of what is said of its media, in hexadecimal.
        media: Its media, in the job's order.
        session_id: Its session, once there is one.
        decision: The decision, once there is one.
        failure: Why it failed, if it did.
    """

    job_id: str
    state: JobState = JobState.NEW
    options_digest: str
    media: tuple[MediaRecord, ...]
    session_id: str | None = None
    decision: Decision | None = field(default=None, repr=False)
    failure: JobFailure | None = None

    @property
    def missing_indexes(self) -> tuple[int, ...]:
        """Places of the media that are not known to be up."""
        return tuple(place for place, one in enumerate(self.media) if one.media_id is None)

    @property
    def is_resolvable(self) -> bool:
        """Whether a person may say which session the job has, see `resolve_unknown`.

        So it is while nobody knows whether one was created, and also when Veriff does not know the session: its id may
        have been mistyped. Once Veriff has a picture of the job, its session is certain.
        """
        record = self.retry()
        if record.state in {JobState.CREATING, JobState.UNKNOWN}:
            return True
        is_refused = self.failure is not None and self.failure.error_type in _UNKNOWN_SESSION
        return (
            is_refused
            and record.state in {JobState.CREATED, JobState.UPLOADING}
            and len(self.missing_indexes) == len(self.media)
        )

    def with_state(self, state: JobState) -> JobRecord:
        """Return the record at another step."""
        return evolve(self, state=state)

    def with_session(self, session_id: str) -> JobRecord:
        """Return the record with its session."""
        return evolve(self, state=JobState.CREATED, session_id=session_id)

    def with_uploads_started(self) -> JobRecord:
        """Return the record with all missing media begun."""
        media = tuple(one if one.media_id else evolve(one, upload_started=True) for one in self.media)
        return evolve(self, state=JobState.UPLOADING, media=media)

    def with_media_id(self, place: int, media_id: str) -> JobRecord:
        """Return the record with one more media up."""
        media = tuple(evolve(one, media_id=media_id) if at == place else one for at, one in enumerate(self.media))
        return evolve(self, media=media)

    def with_decision(self, decision: Decision) -> JobRecord:
        """Return the record with its decision."""
        return evolve(self, state=JobState.DECIDED, decision=decision, failure=None)

    def with_failure(self, error: VeriffError) -> JobRecord:
        """Return the record with the error that ended it."""
        failure = JobFailure(error_type=type(error).__name__, message=str(error), state=self.state)
        return evolve(self, state=JobState.FAILED, failure=failure)

    def retry(self) -> JobRecord:
        """Return the record of a job that failed, at the step that failed."""
        return self if self.failure is None else evolve(self, state=self.failure.state, failure=None)

    def with_uploaded(self, files: Sequence[MediaFile]) -> JobRecord:
        """Return the record with what Veriff holds of the uploads that were begun.

        An upload whose answer was lost with its process is known by what it shows and by its size. Where that leaves a
        doubt which of several it is, all are uploaded again: Veriff takes a picture twice, but misses none.
        """
        known = {one.media_id for one in self.media}
        left = [file for file in files if file.id not in known]
        record = self
        for (context, size), places in self._alike(left).items():
            matches = [file for file in left if file.context == context and size in {None, file.size}]
            if len(matches) < len(places) and not self._is_one(places):
                continue
            sizes = {file.size for file in matches}
            for place in sorted(places, key=lambda place: self.media[place].expected_size not in sizes)[: len(matches)]:
                told = self.media[place].expected_size
                match = next((file for file in matches if file.size == told), matches[0])
                matches.remove(match)
                record = record.with_media_id(place, match.id)
        return record

    def _alike(self, files: Sequence[MediaFile]) -> Mapping[tuple[str, int | None], Sequence[int]]:
        """Group the places of begun uploads that Veriff's list cannot tell apart, by context and size."""
        begun = [place for place in self.missing_indexes if self.media[place].upload_started]
        vague = {self.media[place].context for place in begun if self.media[place].expected_size is None}
        vague |= {str(file.context) for file in files if file.size is None}
        alike: dict[tuple[str, int | None], list[int]] = {}
        for place in begun:
            one = self.media[place]
            alike.setdefault((one.context, None if one.context in vague else one.expected_size), []).append(place)
        return alike

    def _is_one(self, places: Sequence[int]) -> bool:
        """Tell whether the same bytes stand at all places, so that it does not matter which is up."""
        stamps = [self.media[place].fingerprint for place in places]
        return None not in stamps and len({stamp.sha256 for stamp in stamps if stamp}) == 1


def dump_record(record: JobRecord) -> bytes:
    """Write a record as JSON, for a store."""
    return dump_strict(record)


def load_record(text: bytes) -> JobRecord:
    """Read what `dump_record` wrote.

    Raises:
        JournalError: The bytes are damaged, or a newer version wrote them.
    """
    try:
        return load_strict(JobRecord, text)
    except DecodeError:
        msg = "A record of the journal cannot be read: look for a newer veriff-async."
    raise JournalError(msg)
