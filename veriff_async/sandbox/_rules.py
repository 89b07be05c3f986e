"""The rules by which a sandbox behaves, all of which can change while it runs. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from attrs import evolve, field, fields, frozen

from veriff_async._protocol.arguments import check_instance
from veriff_async._protocol.option_names import check_names, suggest
from veriff_async.errors import InvalidArgumentError
from veriff_async.sandbox._arguments import (
    LONGEST,
    check_mapping,
    check_number,
    check_text,
    check_url,
    flag,
    number,
    one_of,
)
from veriff_async.sandbox._records import WebhookKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from attrs import Attribute

__all__ = (
    "RuleFields",
    "SandboxOptions",
    "SandboxRules",
    "change_rules",
)


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


_DEFAULTS: Final = SandboxOptions()
_NO_URLS: Final[Mapping[WebhookKind, str]] = MappingProxyType({})


class RuleFields(TypedDict, total=False):
    """The rules that change; the keyword arguments of `Sandbox.change_rules`."""

    decide_after: float | None
    webhook_url: str | None
    webhook_urls: Mapping[WebhookKind, str] | Mapping[str, str]
    options: SandboxOptions
    time_digits: Literal[3, 6]
    abandoned_code: Literal[9104, 9121]
    reason_code_as_text: bool
    code_is_null: bool
    end_user_id_must_be_uuid: bool
    oversize_status: int
    sign_errors: bool
    full_auto: bool
    upload_starts_attempt: bool
    allow_deletion: bool
    face_quota: int
    resubmission_hold_seconds: float
    feedback_signs_body: bool
    session_lifetime_days: float
    webhook_retry_seconds: float
    webhook_retry_days: float
    webhook_timeout_seconds: float
    requests_per_second: float | None


@frozen(kw_only=True)
class SandboxRules:
    """The rules of a sandbox at one time.

    Attributes:
        decide_after: Seconds from the submission of a session to its approval; ``None`` leaves the decision to
            `Sandbox.decide`.
        webhook_urls: The URL to which each kind of webhook is posted; kinds without a URL are not posted.
        options: Behaviour that Veriff does not document, or documents in two ways.
    """

    decide_after: float | None = None
    # A URL may contain a secret.
    webhook_urls: Mapping[WebhookKind, str] = field(default=_NO_URLS, repr=False, hash=False)
    options: SandboxOptions = _DEFAULTS


def change_rules(rules: SandboxRules, changes: RuleFields) -> SandboxRules:
    """Return other rules, after all changes were checked.

    Raises:
        InvalidArgumentError: A value has the wrong type, is unknown or is out of range; the message names the option.
        TypeError: An option is unknown; the message suggests the right name.
    """
    check_names("change_rules()", changes, tuple(RuleFields.__annotations__))
    for name, change in _CHANGES.items():
        if name in changes:
            rules = change(rules, cast("Mapping[str, object]", changes)[name])
    names = {attribute.name for attribute in fields(SandboxOptions)}
    # Without types, because `SandboxOptions` is what checks the values.
    options = cast("dict[str, Any]", {name: value for name, value in changes.items() if name in names})
    return evolve(rules, options=evolve(rules.options, **options)) if options else rules


def _set_decide_after(rules: SandboxRules, value: object) -> SandboxRules:
    return evolve(rules, decide_after=None if value is None else check_number("decide_after", value))


def _set_options(rules: SandboxRules, value: object) -> SandboxRules:
    remedy = "pass SandboxOptions(...)"
    options = check_instance("options", value, SandboxOptions, remedy=remedy, error=InvalidArgumentError)
    return evolve(rules, options=options)


def _set_webhook_urls(rules: SandboxRules, value: object) -> SandboxRules:
    mapping = check_mapping("webhook_urls", value, remedy="pass kinds and their addresses")
    checked = {
        WebhookKind(check_text("a kind of webhook_urls", kind)): check_url("webhook_url", url)
        for kind, url in mapping.items()
    }
    # A URL for an unknown kind would never be used, so a typing error would go unnoticed.
    for kind in checked:
        if not kind.known:
            remedy = suggest(kind, WebhookKind, otherwise=f"pass some of {', '.join(WebhookKind)}.")
            msg = f"webhook_urls has an unknown kind of webhook: {remedy}"
            raise InvalidArgumentError(msg)
    return evolve(rules, webhook_urls=MappingProxyType(checked))


def _set_webhook_url(rules: SandboxRules, value: object) -> SandboxRules:
    urls = dict(rules.webhook_urls)
    urls.pop(WebhookKind.DECISION, None)
    if value is not None:
        urls[WebhookKind.DECISION] = check_url("webhook_url", value)
    return evolve(rules, webhook_urls=MappingProxyType(urls))


# In the order in which they apply: single values replace those of a whole.
_CHANGES: Final[Mapping[str, Callable[[SandboxRules, object], SandboxRules]]] = {
    "decide_after": _set_decide_after,
    "options": _set_options,
    "webhook_urls": _set_webhook_urls,
    "webhook_url": _set_webhook_url,
}
