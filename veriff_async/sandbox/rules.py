"""What the sandbox does where the documents contradict themselves, or are silent."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from attrs import frozen

__all__ = ("Rules",)


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
    """

    time_digits: Literal[3, 6] = 6
    abandoned_code: Literal[9104, 9121] = 9104
    reason_code_as_text: bool = False
    code_is_null: bool = False
    end_user_id_must_be_uuid: bool = False
    oversize_status: int = 413
    sign_errors: bool = True
    full_auto: bool = False
    uploads_start: bool = False
    may_delete: bool = True
    face_quota: int = 1000
    hold_seconds: float = 300
    feedback_signs_body: bool = True
    days_to_decide: float = 7
    retry_seconds: float = 3600
    retry_days: float = 7
    receiver_seconds: float = 5
    requests_per_second: float | None = None

    @property
    def between_tries(self) -> timedelta:
        """Time between two tries to deliver a webhook."""
        return timedelta(seconds=self.retry_seconds)
