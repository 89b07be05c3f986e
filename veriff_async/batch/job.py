"""What a batch is made of: jobs in, results out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, cast

from attrs import field, frozen

from veriff_async._protocol.arguments import check_number
from veriff_async._protocol.option_names import check_names
from veriff_async._protocol.session_request import CREATE_OPTIONS
from veriff_async.errors import ConfigurationError
from veriff_async.models.media import Media

if TYPE_CHECKING:
    from attrs import Attribute

    from veriff_async._protocol.session_request import CreateOptions
    from veriff_async.batch._records import Step
    from veriff_async.errors import VeriffError
    from veriff_async.models.decision import Decision

__all__ = ("Job", "JobResult")


_LONGEST: Final = 1000  # characters: as much as Veriff takes for vendor_data


def _check_name(_job: object, _attribute: Attribute[str], value: object) -> None:
    if not isinstance(value, str) or not value or len(value) > _LONGEST or not value.isprintable():
        msg = "A job's id cannot be used: give 1 to 1000 printable characters of your own."
        raise ConfigurationError(msg)


def _check_media(job: Job, _attribute: Attribute[tuple[Media, ...]], value: tuple[object, ...]) -> None:
    if not value or not all(isinstance(one, Media) for one in value):
        msg = f'Job {job.id} has no media to upload: give a sequence like [Media("front.jpg", "document-front")].'
        raise ConfigurationError(msg)


def _check_timeout(job: Job, _attribute: object, value: float | None) -> None:
    if value is not None:
        check_number(f"The timeout of job {job.id}", value, above=True, remedy="give seconds above zero, or None")


def _check_options(job: Job, _attribute: object, value: object) -> None:
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        msg = f'The options of job {job.id} must be a mapping such as {{"vendor_data": "user-42"}}, not {kind}.'
        raise ConfigurationError(msg)
    check_names(f"Job {job.id}", cast("Mapping[object, object]", value), CREATE_OPTIONS)


def _nothing() -> CreateOptions:
    return {}


def _tuple(media: Iterable[Media]) -> tuple[Media, ...]:
    return tuple(media) if isinstance(cast("object", media), Iterable) else ()  # for `_check_media` to refuse


@frozen
class Job:
    """One verification of a batch.

    Args:
        id: An id of your own, the same each time the job is given: it is what a journal knows the job by. It becomes
            the session's ``vendor_data`` unless `options` says otherwise, so that a session can be found by it.
        media: What to upload. Paths, bytes and seekable files can be read again after a restart; a stream must be given
            afresh.
        options: What the session is made with; see `VeriffClient.create_session`.
        timeout: Seconds to wait for the decision, once submitted; ``None`` for as long as it takes.

    Raises:
        ConfigurationError: One of them cannot be right.
        TypeError: An option is unknown; the message suggests the right name.

    Example:
        >>> job = Job("user-42", [Media("front.jpg", "document-front"), Media("selfie.jpg", "face")])
    """

    id: str = field(validator=_check_name)
    media: tuple[Media, ...] = field(converter=_tuple, validator=_check_media, repr=False)
    options: CreateOptions = field(factory=_nothing, validator=_check_options, repr=False, hash=False, kw_only=True)
    timeout: float | None = field(default=900.0, validator=_check_timeout, kw_only=True)


def check_job(job: object) -> None:
    """Check that a program gave a job.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(job, Job):
        msg = (
            f"The batch takes jobs, not {type(job).__name__}: pass for example "
            'Job("user-42", [Media("front.jpg", "document-front")]).'
        )
        raise ConfigurationError(msg)


@frozen(kw_only=True)
class JobResult:
    """What came of one job.

    Attributes:
        job_id: The job.
        session_id: Its session, once there is one.
        decision: The decision, or ``None``.
        error: Why there is no decision, or ``None``. An `OutcomeUnknownError` has the id of a session that may have
            been created, if it could be read.
        step: Where the job stands in the journal. What did not end as ``decided`` or ``failed`` goes on when the job is
            given again.
        known: Whether the journal had the outcome already, from an earlier run.
    """

    job_id: str
    session_id: str | None
    decision: Decision | None = field(default=None, repr=False)
    error: VeriffError | None = None
    step: Step
    known: bool = False
