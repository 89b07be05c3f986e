"""What the sandbox does where the documents contradict themselves, or are silent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from veriff_async.sandbox._arguments import LONGEST, check_number, flag, number, one_of

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ("Rules",)


def _check_rate(_rules: object, _attribute: Attribute[float | None], value: object) -> None:
    if value is not None:
        check_number("Rules.requests_per_second", value, above=True)


@frozen(kw_only=True)
class Rules:
    """Knobs for what is not known about Veriff; the defaults follow what was really seen, then the documents.

    Args:
        time_digits: Digits of a second in times: 6 in payloads since 2023, 3 in the documents and in older ones.
        abandoned_code: Code of an abandoned session: 9104 in the status table and in real payloads, 9121 in the
            reference of ``GET /decision``.
        reason_code_as_text: Whether ``reasonCode`` is a text, as documented, or a number, as seen.
        code_is_null: Whether ``code`` is null, as in 6 of 21 samples of approved decisions of 2026 (seen).
        end_user_id_must_be_uuid: Whether an ``endUserId`` that is not a UUID is refused (code 1104, a guess). Veriff
            documents the member for UUIDs; other ids were seen in real webhooks, so they are taken by default.
        oversize_status: HTTP status for a file that is too large; undocumented.
        sign_errors: Whether answers that refuse are signed too; undocumented.
        full_auto: Whether the integration decides without a human (Essential plan): its decisions are posted in that
            form, and no started or submitted attempt is told.
        uploads_start: Whether the first picture that comes by API starts the attempt, and tells it (7001); unknown.
        may_delete: Whether sessions can be deleted. At Veriff this is off until it is enabled for an integration
            (documented), and answered with 403 then (seen); set it to False to test against that.
        face_quota: Faces that can be imported in all; that there is a quota is documented, its size is that of a plan.
        hold_seconds: Seconds for which a request for resubmission is held back when the end-user works on Veriff's
            page; documented as 5 minutes.
        feedback_signs_body: Whether a POST to the feedback API is signed over path and body, as documented now, or
            over the path alone, as older pages say.
        days_to_decide: Days from its creation after which an undecided session is expired or abandoned; documented
            as 7.
        retry_seconds: Seconds between tries to deliver a webhook; documented as about an hour.
        retry_days: Days for which that is tried; documented as 7.
        receiver_seconds: Seconds a receiver has for its answer; about 5 in notes of integrators.
        requests_per_second: Requests a second beyond which the API answers 429, with a ``Retry-After`` of a second (a
            guess); ``None``, the default, for no limit, since Veriff documents none but for two calls.

    Raises:
        ConfigurationError: A value is not of its kind, not finite, or beyond what the sandbox can do.
    """

    time_digits: Literal[3, 6] = field(default=6, validator=one_of(3, 6))
    abandoned_code: Literal[9104, 9121] = field(default=9104, validator=one_of(9104, 9121))
    reason_code_as_text: bool = field(default=False, validator=flag)
    code_is_null: bool = field(default=False, validator=flag)
    end_user_id_must_be_uuid: bool = field(default=False, validator=flag)
    oversize_status: int = field(default=413, validator=number(lowest=400, highest=599, whole=True))
    sign_errors: bool = field(default=True, validator=flag)
    full_auto: bool = field(default=False, validator=flag)
    uploads_start: bool = field(default=False, validator=flag)
    may_delete: bool = field(default=True, validator=flag)
    face_quota: int = field(default=1000, validator=number(whole=True))
    hold_seconds: float = field(default=300, validator=number())
    feedback_signs_body: bool = field(default=True, validator=flag)
    days_to_decide: float = field(default=7, validator=number(highest=LONGEST / 86_400))
    retry_seconds: float = field(default=3600, validator=number(above=True))
    retry_days: float = field(default=7, validator=number(highest=LONGEST / 86_400))
    receiver_seconds: float = field(default=5, validator=number(above=True))
    requests_per_second: float | None = field(default=None, validator=_check_rate)

    @property
    def between_tries(self) -> timedelta:
        """Time between two tries to deliver a webhook."""
        return timedelta(seconds=self.retry_seconds)
