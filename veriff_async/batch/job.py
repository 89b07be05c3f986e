"""The input and output of a batch: jobs and their results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Unpack, cast

from attrs import field, frozen

from veriff_async._protocol.arguments import check_number
from veriff_async._protocol.option_names import check_names
from veriff_async._protocol.session_request import CREATE_OPTIONS
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from attrs import Attribute

    from veriff_async._protocol.session_request import CreateOptions
    from veriff_async.batch._records import JobState
    from veriff_async.errors import VeriffError
    from veriff_async.models.decision import Decision

__all__ = ("Job", "JobResult")


# Characters: the maximum of vendor_data, which the id becomes.
_MAX_ID_LENGTH: Final = 1000


def _check_id(_job: object, _attribute: Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value or len(value) > _MAX_ID_LENGTH or not value.isprintable():
        msg = "The id of a job must be a text of 1 to 1000 printable characters."
        raise InvalidArgumentError(msg)


def _check_media(job: Job, _attribute: Attribute[tuple[Media, ...]], value: tuple[object, ...]) -> None:
    if not value or not all(isinstance(item, Media) for item in value):
        msg = f'Job {job.id} must have media: pass a sequence such as [Media("front.jpg", "document-front")].'
        raise InvalidArgumentError(msg)


def _check_timeout(job: Job, _attribute: object, value: float | None) -> None:
    if value is not None:
        check_number(
            f"The timeout of job {job.id}",
            value,
            above=True,
            remedy="give seconds above zero, or None",
            error=InvalidArgumentError,
        )


def _check_options(job: Job, _attribute: object, value: CreateOptions) -> None:
    check_names(f"Job {job.id}", value, CREATE_OPTIONS)


def _to_tuple(media: Iterable[Media]) -> tuple[Media, ...]:
    return tuple(media) if isinstance(cast("object", media), Iterable) else ()  # which `_check_media` refuses


@frozen(init=False)
class Job:
    """One verification of a batch.

    Args:
        id: Your own id for the job, the same each time the job is passed: the journal finds the job by it. It becomes
            the session's ``vendor_data`` unless you pass another, so that the session can be found by it.
        media: The media to upload. Paths, bytes and seekable files can be read again after a restart; a stream must be
            passed again.
        timeout: Seconds to wait for the decision after the submission; ``None`` waits as long as it takes.
        **options: The options of the session, for example ``person`` or ``callback``; see
            `VeriffClient.create_session`. The attribute ``options`` holds them.

    Raises:
        InvalidArgumentError: An argument is invalid.
        TypeError: An option is unknown; the message suggests the right name.

    Example:
        >>> job = Job("user-42", [Media("front.jpg", "document-front"), Media("selfie.jpg", "face")])
    """

    id: str = field(validator=_check_id)
    media: tuple[Media, ...] = field(converter=_to_tuple, validator=_check_media, repr=False)
    # Without hash: a dictionary has none, and jobs must stay hashable.
    options: CreateOptions = field(validator=_check_options, repr=False, hash=False)
    timeout: float | None = field(validator=_check_timeout)

    if TYPE_CHECKING:

        def __attrs_init__(
            self,
            id: str,  # noqa: A002
            media: Iterable[Media],
            options: CreateOptions,
            timeout: float | None,
        ) -> None: ...

    def __init__(
        self,
        id: str,  # noqa: A002
        media: Iterable[Media],
        *,
        timeout: float | None = 900.0,
        **options: Unpack[CreateOptions],
    ) -> None:
        """Check the arguments; nothing is read yet."""
        self.__attrs_init__(id, media, options, timeout)


def check_job(job: object) -> None:
    """Check that an item of a batch is a job.

    Raises:
        InvalidArgumentError: It is something else.
    """
    if not isinstance(job, Job):
        msg = (
            f"Every item of a batch must be a Job, not {type(job).__name__}: pass for example "
            'Job("user-42", [Media("front.jpg", "document-front")]).'
        )
        raise InvalidArgumentError(msg)


@frozen(kw_only=True)
class JobResult:
    """The result of one job.

    Attributes:
        job_id: The job.
        session_id: The session, once it exists.
        decision: The decision, or ``None``.
        error: Why the job has no decision, or ``None``. An `OutcomeUnknownError` has the id of the session that may
            have been created, if the response contained one.
        state: The job's state in the journal. A job that did not end as ``decided`` or ``failed`` resumes when it is
            passed again.
        from_journal: Whether an earlier run had finished the job, so that the result comes from the journal.
    """

    job_id: str
    session_id: str | None
    decision: Decision | None = field(default=None, repr=False)
    error: VeriffError | None = None
    state: JobState
    from_journal: bool = False
