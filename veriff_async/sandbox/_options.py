"""Options for behaviour that Veriff does not document, or documents in two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import field, frozen

from veriff_async.sandbox._arguments import LONGEST, check_number, flag, number, one_of

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ("SandboxOptions",)


def _check_rate(_options: object, _attribute: Attribute[float | None], value: object) -> None:
    if value is not None:
        check_number("SandboxOptions.requests_per_second", value, above=True)


@frozen(kw_only=True)
class SandboxOptions:
    """Behaviour of the sandbox that can be chosen.

    Each option names the source of its default: "documented" by Veriff, "seen" in payloads that Veriff sent, or a
    "guess". Where the documents contradict what was seen, the default follows what was seen.

    Args:
        time_digits: Digits of the fraction of a second in times. Seen: 6 in payloads since 2023. Documented: 3, also
            seen in older payloads.
        abandoned_code: Code of an abandoned session. Documented in the status table and seen: 9104. Documented in the
            reference of ``GET /decision``: 9121.
        reason_code_as_text: Whether ``reasonCode`` is a string. Documented: a string. Seen: a number.
        code_is_null: Whether ``code`` is null. Seen in 6 of 21 samples of approved decisions of 2026.
        end_user_id_must_be_uuid: Whether an ``endUserId`` that is not a UUID is refused (code 1104, a guess).
            Documented: the member is a UUID. Seen: other ids in real webhooks, so they are accepted by default.
        oversize_status: HTTP status for a file that is too large. A guess.
        sign_errors: Whether error responses are signed too. A guess.
        full_auto: Whether the integration decides without a human (Essential plan). Documented: its decisions have a
            form of their own, and no webhook is sent for started or submitted attempts.
        upload_starts_attempt: Whether the first upload by API starts the attempt and sends its webhook (code 7001).
            A guess.
        allow_deletion: Whether sessions can be deleted. Documented: off until Veriff enables it for an integration.
            Seen: 403 while it is off. It is on here, so that tests need no option; set it to False to test the 403.
        face_quota: Number of faces that can be imported. Documented: that a quota exists. Its size depends on the plan.
        resubmission_hold_seconds: Seconds for which a request for resubmission is held back while the end-user works
            on Veriff's page. Documented: 5 minutes.
        feedback_signs_body: Whether the signature of a POST to the feedback API covers path and body. Documented: both;
            older pages: the path alone.
        session_lifetime_days: Days from its creation after which an undecided session is expired or abandoned.
            Documented: 7.
        webhook_retry_seconds: Seconds between attempts to deliver a webhook. Documented: about an hour.
        webhook_retry_days: Days after which delivery is given up. Documented: 7.
        webhook_timeout_seconds: Seconds in which a receiver must respond. Seen in notes of integrators: about 5.
        requests_per_second: Requests a second above which the API responds with 429 and a ``Retry-After`` of one
            second (a guess). ``None``, the default, disables the limit: Veriff documents none except for two endpoints.

    Raises:
        InvalidArgumentError: A value has the wrong type, is not finite, or is out of range.
    """

    time_digits: Literal[3, 6] = field(default=6, validator=one_of(3, 6))
    abandoned_code: Literal[9104, 9121] = field(default=9104, validator=one_of(9104, 9121))
    reason_code_as_text: bool = field(default=False, validator=flag)
    code_is_null: bool = field(default=False, validator=flag)
    end_user_id_must_be_uuid: bool = field(default=False, validator=flag)
    oversize_status: int = field(default=413, validator=number(lowest=400, highest=599, whole=True))
    sign_errors: bool = field(default=True, validator=flag)
    full_auto: bool = field(default=False, validator=flag)
    upload_starts_attempt: bool = field(default=False, validator=flag)
    allow_deletion: bool = field(default=True, validator=flag)
    face_quota: int = field(default=1000, validator=number(whole=True))
    resubmission_hold_seconds: float = field(default=300, validator=number())
    feedback_signs_body: bool = field(default=True, validator=flag)
    session_lifetime_days: float = field(default=7, validator=number(highest=LONGEST / 86_400))
    webhook_retry_seconds: float = field(default=3600, validator=number(above=True))
    webhook_retry_days: float = field(default=7, validator=number(highest=LONGEST / 86_400))
    webhook_timeout_seconds: float = field(default=5, validator=number(above=True))
    requests_per_second: float | None = field(default=None, validator=_check_rate)
