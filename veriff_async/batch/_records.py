"""What a journal keeps of a job: where it stands, and how one step follows another. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from veriff_async._protocol.json.decode import UnreadableError, dump, load_object, read
from veriff_async._protocol.json.encode import to_json
from veriff_async.models.decision import Decision, DecisionSource
from veriff_async.models.json import as_list, as_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.errors import VeriffError
    from veriff_async.models.media import MediaFile

__all__ = ("Failure", "JobRecord", "MediaRecord", "Stamp", "Step", "dump_record", "load_record")

_UNKNOWN_SESSION: Final = ("BadRequestError", "NotFoundError")
"""Classes of the errors with which Veriff refuses an id: 400 with code 1001 or 1002, or 404."""


class Step(StrEnum):
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
class Stamp:
    """What tells the bytes of a file from others.

    Attributes:
        size: Bytes.
        written: When it was last written to, in nanoseconds, where that is known: the same size and time need no
            reading.
        digest: SHA-256 of the bytes, in hexadecimal.
    """

    size: int
    written: int | None = None
    digest: str


@frozen(kw_only=True)
class MediaRecord:
    """One media of a job.

    Attributes:
        context: What it shows.
        stamp: What its bytes were, or ``None`` for a stream, which can be read only once.
        scaled: Whether it is made smaller on its way, so that Veriff tells another size.
        begun: Whether its upload was begun, so that Veriff may hold it.
        media_id: Veriff's id of it, once it is up.
    """

    context: str
    stamp: Stamp | None = None
    scaled: bool = False
    begun: bool = False
    media_id: str | None = None

    @property
    def told_size(self) -> int | None:
        """The size that Veriff tells of it, where that is known beforehand."""
        return None if self.stamp is None or self.scaled else self.stamp.size


@frozen(kw_only=True)
class Failure:
    """Why a job failed for good.

    Attributes:
        kind: Name of the error's class, for example ``"MediaEmptyError"``.
        message: Its sentence.
        at: The step that failed.
    """

    kind: str
    message: str
    at: Step


@frozen(kw_only=True)
class JobRecord:
    """What is known of a job.

    Attributes:
        job_id: The job.
        step: Where it stands.
        options: SHA-256 of what the session is made with and of what is said of its media, in hexadecimal.
        media: Its media, in the job's order.
        session_id: Its session, once there is one.
        decision: The decision, once there is one.
        failure: Why it failed, if it did.
    """

    job_id: str
    step: Step = Step.NEW
    options: str
    media: tuple[MediaRecord, ...]
    session_id: str | None = None
    decision: Decision | None = field(default=None, repr=False)
    failure: Failure | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        """Places of the media that are not known to be up."""
        return tuple(place for place, one in enumerate(self.media) if one.media_id is None)

    @property
    def may_be_settled(self) -> bool:
        """Whether a person may say which session the job has, see `settle`.

        So it is while nobody knows whether one was created, and also when Veriff does not know the session: its id may
        have been mistyped. Once Veriff has a picture of the job, its session is certain.
        """
        record = self.again()
        if record.step in {Step.CREATING, Step.UNKNOWN}:
            return True
        is_refused = self.failure is not None and self.failure.kind in _UNKNOWN_SESSION
        return is_refused and record.step in {Step.CREATED, Step.UPLOADING} and len(self.missing) == len(self.media)

    def at(self, step: Step) -> JobRecord:
        """Return the record at another step."""
        return evolve(self, step=step)

    def created(self, session_id: str) -> JobRecord:
        """Return the record with its session."""
        return evolve(self, step=Step.CREATED, session_id=session_id)

    def uploading(self) -> JobRecord:
        """Return the record with all missing media begun."""
        media = tuple(one if one.media_id else evolve(one, begun=True) for one in self.media)
        return evolve(self, step=Step.UPLOADING, media=media)

    def uploaded(self, place: int, media_id: str) -> JobRecord:
        """Return the record with one more media up."""
        media = tuple(evolve(one, media_id=media_id) if at == place else one for at, one in enumerate(self.media))
        return evolve(self, media=media)

    def decided(self, decision: Decision) -> JobRecord:
        """Return the record with its decision."""
        return evolve(self, step=Step.DECIDED, decision=decision, failure=None)

    def failed(self, error: VeriffError) -> JobRecord:
        """Return the record with the error that ended it."""
        failure = Failure(kind=type(error).__name__, message=str(error), at=self.step)
        return evolve(self, step=Step.FAILED, failure=failure)

    def again(self) -> JobRecord:
        """Return the record of a job that failed, at the step that failed."""
        return self if self.failure is None else evolve(self, step=self.failure.at, failure=None)

    def found(self, files: Sequence[MediaFile]) -> JobRecord:
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
            for place in sorted(places, key=lambda place: self.media[place].told_size not in sizes)[: len(matches)]:
                told = self.media[place].told_size
                match = next((file for file in matches if file.size == told), matches[0])
                matches.remove(match)
                record = record.uploaded(place, match.id)
        return record

    def _alike(self, files: Sequence[MediaFile]) -> Mapping[tuple[str, int | None], Sequence[int]]:
        """Group the places of begun uploads that Veriff's list cannot tell apart, by context and size."""
        begun = [place for place in self.missing if self.media[place].begun]
        vague = {self.media[place].context for place in begun if self.media[place].told_size is None}
        vague |= {str(file.context) for file in files if file.size is None}
        alike: dict[tuple[str, int | None], list[int]] = {}
        for place in begun:
            one = self.media[place]
            alike.setdefault((one.context, None if one.context in vague else one.told_size), []).append(place)
        return alike

    def _is_one(self, places: Sequence[int]) -> bool:
        """Tell whether the same bytes stand at all places, so that it does not matter which is up."""
        stamps = [self.media[place].stamp for place in places]
        return None not in stamps and len({stamp.digest for stamp in stamps if stamp}) == 1


def dump_record(record: JobRecord) -> bytes:
    """Write a record as JSON, for a store."""
    decision, failure = record.decision, record.failure
    return dump(
        {
            "id": record.job_id,
            "step": record.step,
            "options": record.options,
            "media": [_dump_media(one) for one in record.media],
            "session": record.session_id,
            "decision": None if decision is None else decision.raw or to_json(decision),
            "source": None if decision is None else decision.source,
            "failure": None if failure is None else [failure.kind, failure.message, failure.at],
        }
    )


def load_record(text: bytes) -> JobRecord:
    """Read what `dump_record` wrote.

    Raises:
        UnreadableError: It is nothing that this version wrote.
    """
    found = load_object(text)
    decision, failure = found.get("decision"), found.get("failure")
    return JobRecord(
        job_id=_text(found, "id"),
        step=_step(found.get("step")),
        options=_text(found, "options"),
        media=tuple(_load_media(one) for one in as_list(found.get("media"))),
        session_id=_text(found, "session") if found.get("session") is not None else None,
        decision=None if decision is None else _load_decision(decision, found.get("source")),
        failure=None if failure is None else _load_failure(as_list(failure)),
    )


def _dump_media(media: MediaRecord) -> dict[str, object]:
    stamp = media.stamp
    return {
        "context": media.context,
        "stamp": None if stamp is None else [stamp.size, stamp.written, stamp.digest],
        "scaled": media.scaled,
        "begun": media.begun,
        "id": media.media_id,
    }


def _load_media(value: object) -> MediaRecord:
    found = as_object(value) or {}
    stamp, media_id = found.get("stamp"), found.get("id")
    return MediaRecord(
        context=_text(found, "context"),
        stamp=None if stamp is None else _load_stamp(as_list(stamp)),
        scaled=found.get("scaled") is True,
        begun=found.get("begun") is True,
        media_id=media_id if isinstance(media_id, str) else None,
    )


def _load_stamp(value: Sequence[object]) -> Stamp:
    match value:
        case [int(size), int(written) | (None as written), str(digest)]:
            return Stamp(size=size, written=written, digest=digest)
        case _:
            problem = "expected size, time and digest @ $.media"
            raise UnreadableError(problem)


def _load_failure(value: Sequence[object]) -> Failure:
    match value:
        case [str(kind), str(message), at]:
            return Failure(kind=kind, message=message, at=_step(at))
        case _:
            problem = "expected class, message and step @ $.failure"
            raise UnreadableError(problem)


def _load_decision(value: object, source: object) -> Decision:
    decision = read(Decision, value, path="$.decision")
    return evolve(decision, source=next((known for known in DecisionSource if known == source), None))


def _step(value: object) -> Step:
    step = next((known for known in Step if known == value), None)
    if step is None:
        problem = "expected a known step @ $.step"
        raise UnreadableError(problem)
    return step


def _text(found: Mapping[str, object], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        problem = f"expected a text @ $.{name}"
        raise UnreadableError(problem)
    return value
