"""The record of a job: its state and what a restarted run needs to resume it. Pure.

`_runner` explains the states. A record is immutable; each step makes a new one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from veriff_async._protocol.arguments import check_instance
from veriff_async._protocol.json.strict import dump_strict, load_strict
from veriff_async.errors import DecodeError, InvalidArgumentError, JournalError
from veriff_async.models.decision import Decision  # noqa: TC001  cattrs reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from veriff_async.errors import VeriffError
    from veriff_async.models.media import MediaFile

__all__ = (
    "FINISHED_STATES",
    "FileFingerprint",
    "JobFailure",
    "JobRecord",
    "JobState",
    "MediaRecord",
    "UnreadRecords",
    "dump_record",
    "load_record",
)

# Errors with which Veriff refuses a session id: 400 with code 1001 or 1002, or 404.
_UNKNOWN_SESSION: Final = ("BadRequestError", "NotFoundError")


class JobState(StrEnum):
    """The state of a job. In a state that ends in ``ing`` a request may have been sent whose outcome was not saved."""

    NEW = "new"
    CREATING = "creating"
    UNKNOWN = "unknown"  # the creation was sent and no response arrived: a session may exist
    CREATED = "created"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    DECIDED = "decided"
    FAILED = "failed"


FINISHED_STATES: Final = frozenset({JobState.DECIDED, JobState.FAILED})


@frozen(kw_only=True)
class FileFingerprint:
    """Identifies the content of a file.

    Attributes:
        size: Size in bytes.
        mtime_ns: Time of the last modification in nanoseconds, or ``None`` if the media is not a file. A file with the
            same size and time is not read again.
        sha256: SHA-256 of the bytes, in hexadecimal.
    """

    size: int
    mtime_ns: int | None = None
    sha256: str


@frozen(kw_only=True)
class MediaRecord:
    """One media of a job.

    Attributes:
        context: The context, for example ``document-front``.
        fingerprint: Identifies the content, or ``None`` for a stream, which can be read only once.
        converted: Whether the picture may be converted for the upload, so that Veriff reports another size.
        upload_started: Whether its upload was started, so that Veriff may have it.
        media_id: Veriff's id of the media, once it is uploaded.
    """

    context: str
    fingerprint: FileFingerprint | None = None
    converted: bool = False
    upload_started: bool = False
    media_id: str | None = None

    @property
    def expected_size(self) -> int | None:
        """The size that Veriff will report, or ``None`` if that is not known before the upload."""
        return None if self.fingerprint is None or self.converted else self.fingerprint.size


@frozen(kw_only=True)
class JobFailure:
    """Why a job failed permanently.

    Attributes:
        error_type: Name of the error's class, for example ``"MediaEmptyError"``.
        message: The error's message.
        state: The state in which the job failed.
    """

    error_type: str
    message: str
    state: JobState


@frozen(kw_only=True)
class JobRecord:
    """The saved data of a job.

    Attributes:
        job_id: The job.
        state: The state of the job.
        options_digest: SHA-256 of the session's options and of the media's contexts, types and timestamps, in
            hexadecimal.
        media: The media, in the job's order.
        session_id: The session, once it exists.
        decision: The decision, once it is known.
        failure: Why the job failed, if it did.
        creations: Requests of the job that created a session, or may have; see `SessionLimits`.
    """

    job_id: str
    state: JobState = JobState.NEW
    options_digest: str
    media: tuple[MediaRecord, ...]
    session_id: str | None = None
    decision: Decision | None = field(default=None, repr=False)
    failure: JobFailure | None = None
    creations: int = 0

    @property
    def missing_indexes(self) -> tuple[int, ...]:
        """Indexes of the media that are not known to be uploaded."""
        return tuple([index for index, media in enumerate(self.media) if media.media_id is None])

    @property
    def is_resolvable(self) -> bool:
        """Whether `resolve_unknown` may set the job's session.

        That is so while it is unknown whether a session was created, and also when Veriff does not know the session: a
        person may have mistyped its id. Once Veriff has accepted a media of the job, its session is certain.
        """
        record = self.retry()
        if record.state in {JobState.CREATING, JobState.UNKNOWN}:
            return True
        is_refused = self.failure is not None and self.failure.error_type in _UNKNOWN_SESSION
        has_no_upload = len(self.missing_indexes) == len(self.media)
        return is_refused and has_no_upload and record.state in {JobState.CREATED, JobState.UPLOADING}

    def with_state(self, state: JobState) -> JobRecord:
        """Return the record in another state."""
        return evolve(self, state=state)

    def with_creation(self) -> JobRecord:
        """Return the record for a creation that is about to be sent, which may create a session."""
        return evolve(self, state=JobState.CREATING, creations=self.creations + 1)

    def without_creation(self) -> JobRecord:
        """Return the record after a creation that has certainly created nothing."""
        return evolve(self, state=JobState.NEW, session_id=None, creations=max(0, self.creations - 1))

    def with_session(self, session_id: str) -> JobRecord:
        """Return the record with its session."""
        return evolve(self, state=JobState.CREATED, session_id=session_id)

    def with_uploads_started(self) -> JobRecord:
        """Return the record with the upload of every missing media marked as started."""
        media = tuple([media if media.media_id else evolve(media, upload_started=True) for media in self.media])
        return evolve(self, state=JobState.UPLOADING, media=media)

    def with_media_id(self, index: int, media_id: str) -> JobRecord:
        """Return the record with one more media uploaded."""
        uploaded = evolve(self.media[index], media_id=media_id)
        return evolve(self, media=(*self.media[:index], uploaded, *self.media[index + 1 :]))

    def with_decision(self, decision: Decision) -> JobRecord:
        """Return the record with its decision."""
        return evolve(self, state=JobState.DECIDED, decision=decision, failure=None)

    def with_failure(self, error: VeriffError) -> JobRecord:
        """Return the record with the error that ended the job."""
        failure = JobFailure(error_type=type(error).__name__, message=str(error), state=self.state)
        return evolve(self, state=JobState.FAILED, failure=failure)

    def retry(self) -> JobRecord:
        """Return the record of a failed job in the state in which it failed, and of any other job as it is."""
        return self if self.failure is None else evolve(self, state=self.failure.state, failure=None)

    def with_uploaded(self, files: Sequence[MediaFile]) -> JobRecord:
        """Return the record with the media ids of started uploads that Veriff has.

        An upload whose response was not saved is recognised by its context and size. Where several uploads match
        equally well, all of them are uploaded again: Veriff accepts a picture twice, but a missing one is a refusal.
        """
        known_ids = {media.media_id for media in self.media}
        candidates = [file for file in files if file.id not in known_ids]
        record = self
        for (context, size), indexes in self._group_started(candidates).items():
            matches = [file for file in candidates if file.context == context and size in {None, file.size}]
            # Fewer files than started uploads: if their bytes differ, nothing shows which ones arrived.
            if len(matches) < len(indexes) and not self._is_same_content(indexes):
                continue
            # Exact sizes first, so that a media of unknown size takes one of the files that are left.
            sizes = {file.size for file in matches}
            order = sorted(indexes, key=lambda index: self.media[index].expected_size not in sizes)
            for index in order[: len(matches)]:
                expected = self.media[index].expected_size
                match = next((file for file in matches if file.size == expected), matches[0])
                matches.remove(match)
                record = record.with_media_id(index, match.id)
        return record

    def _group_started(self, files: Sequence[MediaFile]) -> Mapping[tuple[str, int | None], Sequence[int]]:
        """Group the indexes of started uploads that cannot be distinguished in Veriff's list: by context and size.

        In a context where the size of a media or of a file is unknown, the context alone counts.
        """
        started = [index for index in self.missing_indexes if self.media[index].upload_started]
        without_size = {self.media[index].context for index in started if self.media[index].expected_size is None}
        without_size |= {str(file.context) for file in files if file.size is None}
        groups: dict[tuple[str, int | None], list[int]] = {}
        for index in started:
            media = self.media[index]
            size = None if media.context in without_size else media.expected_size
            groups.setdefault((media.context, size), []).append(index)
        return groups

    def _is_same_content(self, indexes: Sequence[int]) -> bool:
        """Return whether all these media have the same bytes, so that it does not matter which one is uploaded."""
        fingerprints = [self.media[index].fingerprint for index in indexes]
        return None not in fingerprints and len({each.sha256 for each in fingerprints if each}) == 1


def dump_record(record: JobRecord) -> bytes:
    """Write a record as JSON, for a journal.

    Raises:
        InvalidArgumentError: It is not a record.
    """
    check_instance("record", record, JobRecord, remedy="pass what load_record returns", error=InvalidArgumentError)
    return dump_strict(record)


def load_record(text: bytes) -> JobRecord:
    """Read what `dump_record` wrote.

    Raises:
        JournalError: The bytes are damaged, or a newer version wrote them.
        InvalidArgumentError: The text is not bytes.
    """
    check_instance("text", text, bytes, remedy="pass what dump_record returned", error=InvalidArgumentError)
    try:
        return load_strict(JobRecord, text)
    except DecodeError:
        msg = "A record of the journal cannot be read: look for a newer veriff-async."
    # Outside of the handler: the context would show parts of the record.
    raise JournalError(msg)


@define
class UnreadRecords:
    """The records that an iteration has left out, since they cannot be read: they must not hide the others."""

    _count: int = 0
    _first: JournalError | None = None

    def load(self, load: Callable[[], JobRecord]) -> JobRecord | None:
        """Return a record from a function that decodes it, or ``None`` if it fails."""
        try:
            return load()
        except JournalError as error:
            self._count, self._first = self._count + 1, self._first or error
        return None

    def check(self) -> None:
        """Raise an error at the end of the iteration if a record was left out.

        Raises:
            JournalError: See above.
        """
        if self._first is not None:
            verb = "was" if self._count == 1 else "were"
            msg = f"{self._count} of the records could not be read, and {verb} left out. The first error: {self._first}"
            raise JournalError(msg) from self._first
