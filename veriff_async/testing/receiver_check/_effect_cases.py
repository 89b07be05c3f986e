"""Cases about effects: each event has its effect once, in spite of repetitions, late events and failures.

The responses alone do not show it, so these cases need the user's functions `count_effects` and `set_failing`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from veriff_async._protocol.counts import format_count
from veriff_async.sandbox._records import WebhookKind
from veriff_async.testing.receiver_check import _fixes
from veriff_async.testing.receiver_check._case import CaseGroup, CaseOutcome, CaseSeverity, Finding, RunnableCase
from veriff_async.testing.receiver_check._context import Webhook
from veriff_async.testing.receiver_check._judge import is_accepted, judge_accepted, worst
from veriff_async.testing.receiver_check._sources import CONVENTION, RETRIES_PAGE, WEBHOOKS_PAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from veriff_async.testing.receiver_check._context import CheckContext, Effects

__all__ = ("EFFECT_CASES",)

_CONCURRENT: Final = 10
_ENABLE: Final = (
    "The effects were not counted: give --effects-url or --effects-command, count_effects=..., or override "
    "count_effects in the contract."
)
_ENABLE_STATUS: Final = "The function for effects does not return a status: return Effects(count, status)."
_ENABLE_FAILURES: Final = (
    "Nothing makes the work of the endpoint fail: give --fail-command and --recover-command, set_failing=..., or "
    "override set_failing in the contract."
)


def _decision(context: CheckContext, session_id: str, status: str, *, attempt: str, minute: int) -> Webhook:
    decided_at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minute - 60)
    time = decided_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = context.decision(status, session_id=session_id, attemptId=attempt, decisionTime=time)
    return context.webhook(body)


def _event(context: CheckContext, session_id: str, action: str, *, attempt: str) -> Webhook:
    body = context.sample(WebhookKind.EVENT, action, session_id=session_id)
    return context.webhook({**body, "attemptId": attempt})


async def _deliver(context: CheckContext, webhooks: Sequence[Webhook]) -> Finding:
    """Send webhooks one after the other; each must be accepted."""
    return worst([judge_accepted(await context.post(webhook)) for webhook in webhooks])


async def _judge_count(context: CheckContext, accepted: Finding, session_id: str) -> Finding:
    """Judge whether a session had one effect."""
    if accepted.outcome is CaseOutcome.FAILED:
        return accepted
    if context.options.count_effects is None:
        return Finding.not_checked(f"All were accepted. {_ENABLE}")
    found = await context.effects_after(session_id)
    if found.count == 1:
        return Finding.passed("One effect.")
    return Finding.failed(f"{format_count(found.count, 'effect')}, where one is expected.")


async def _judge_status(context: CheckContext, accepted: Finding, session_id: str, *, status: str) -> Finding:
    """Judge whether the user's system has a status."""
    if accepted.outcome is CaseOutcome.FAILED:
        return accepted
    if context.options.count_effects is None:
        return Finding.not_checked(f"All were accepted. {_ENABLE}")
    found = await context.effects_after(
        session_id, lambda effects: effects.status == status or (effects.count > 0 and effects.status is None)
    )
    if found.count and found.status is None:
        return Finding.not_checked(f"All were accepted. {_ENABLE_STATUS}")
    if found.status == status:
        return Finding.passed(f"The status is {status}.")
    return Finding.failed(f"The status is {_describe_status(found)}, where {status} is expected.")


def _describe_status(effects: Effects) -> str:
    text = effects.status or ""
    if not text:
        return "missing"
    return text if text.isidentifier() and len(text) <= len("resubmission_requested") else "another one"


async def _check_effect(context: CheckContext) -> Finding:
    session_id = context.new_session()
    webhook = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    return await _judge_count(context, await _deliver(context, [webhook]), session_id)


async def _check_duplicates(context: CheckContext) -> Finding:
    session_id = context.new_session()
    webhook = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    return await _judge_count(context, await _deliver(context, [webhook] * 3), session_id)


async def _check_concurrent_duplicates(context: CheckContext) -> Finding:
    session_id = context.new_session()
    webhook = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    replies = await context.post_together([webhook] * _CONCURRENT)
    accepted = worst([judge_accepted(reply, "One of the repetitions") for reply in replies])
    return await _judge_count(context, accepted, session_id)


async def _check_reformatted_duplicate(context: CheckContext) -> Finding:
    session_id = context.new_session()
    first = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    again = context.webhook(first.body.replace(b'":', b'": '))
    accepted = await _deliver(context, [first])
    if accepted.outcome is not CaseOutcome.FAILED:
        other = judge_accepted(await context.post(again))
        if other.outcome is CaseOutcome.FAILED:
            return Finding.not_checked("The other form of the decision was not accepted: fix body-white-space first.")
    return await _judge_count(context, accepted, session_id)


async def _check_late_duplicate(context: CheckContext) -> Finding:
    session_id, attempt = context.new_session(), str(uuid4())
    days = -7 * 24 * 60
    old = _decision(context, session_id, "approved", attempt=attempt, minute=days)
    return await _judge_count(context, await _deliver(context, [old, old]), session_id)


async def _check_late_events(context: CheckContext) -> Finding:
    alone = _event(context, context.new_session(), "submitted", attempt=str(uuid4()))
    if (await _deliver(context, [alone])).outcome is CaseOutcome.FAILED:
        return Finding.not_checked("The endpoint does not accept events: see event-submitted.")
    session_id, attempt = context.new_session(), str(uuid4())
    webhooks = [
        _decision(context, session_id, "approved", attempt=attempt, minute=1),
        _event(context, session_id, "submitted", attempt=attempt),
        _event(context, session_id, "started", attempt=attempt),
    ]
    accepted = await _deliver(context, webhooks)
    return await _judge_status(context, accepted, session_id, status="approved")


async def _check_older_decision(context: CheckContext) -> Finding:
    session_id = context.new_session()
    webhooks = [
        _decision(context, session_id, "approved", attempt=str(uuid4()), minute=9),
        _decision(context, session_id, "resubmission_requested", attempt=str(uuid4()), minute=1),
    ]
    accepted = await _deliver(context, webhooks)
    return await _judge_status(context, accepted, session_id, status="approved")


async def _check_correction(context: CheckContext) -> Finding:
    session_id, attempt = context.new_session(), str(uuid4())
    webhooks = [
        _decision(context, session_id, "approved", attempt=attempt, minute=1),
        _decision(context, session_id, "declined", attempt=attempt, minute=9),
    ]
    accepted = await _deliver(context, webhooks)
    return await _judge_status(context, accepted, session_id, status="declined")


async def _check_forgery(context: CheckContext) -> Finding:
    session_id = context.new_session()
    genuine = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    await context.post(Webhook(genuine.body, context.sign_headers("0" * 64)))
    if context.options.count_effects is None:
        return Finding.not_checked(_ENABLE)
    found = await context.effects_after(session_id, lambda _: True)
    if found.count == 0:
        return Finding.passed("No effect.")
    return Finding.failed(f"{format_count(found.count, 'effect')} of a forged webhook.")


async def _check_failure(context: CheckContext) -> Finding:
    if context.options.count_effects is None or context.options.set_failing is None:
        return Finding.not_checked(_ENABLE if context.options.count_effects is None else _ENABLE_FAILURES)
    session_id = context.new_session()
    webhook = _decision(context, session_id, "approved", attempt=str(uuid4()), minute=1)
    try:
        # Within the block: a switch that fails or is interrupted may have taken effect all the same.
        await context.switch_failing(is_failing=True)
        during = await context.post(webhook)
    finally:
        await context.switch_failing(is_failing=False)
    repeated = ""
    if not is_accepted(during):
        # Veriff repeats what was not answered 200, about an hour later.
        again = judge_accepted(await context.post(webhook), "The repetition after the failure")
        if again.outcome is CaseOutcome.FAILED:
            return again
        repeated = " and the repetition"
    found = await context.effects_after(session_id)
    answer = f"{during.describe()} during the failure"
    if found.count == 0:
        return Finding.failed(f"{answer}, and no effect after it: the event is lost.")
    if found.count > 1:
        return Finding.failed(f"{answer}, and {format_count(found.count, 'effect')} after it.", CaseSeverity.WARNING)
    return Finding.passed(f"{answer}; after it{repeated}, one effect.")


def _case(  # noqa: PLR0913  one for each part of a case
    name: str,
    sends: str,
    run: Callable[[CheckContext], Awaitable[Finding]],
    *,
    expects: str = "accept each with 200; one effect",
    why: str,
    source: str = CONVENTION,
    severity: CaseSeverity = CaseSeverity.ERROR,
    fix: _fixes.Fix = _fixes.ONCE,
) -> RunnableCase:
    return RunnableCase(
        name=name,
        group=CaseGroup.EFFECTS,
        severity=severity,
        sends=sends,
        expects=expects,
        why=why,
        source=source,
        fix=fix,
        run=run,
    )


EFFECT_CASES: Final = (
    _case(
        "effect-once",
        "a decision",
        _check_effect,
        expects="accept it with 200; one effect",
        why="An event that was answered 200 is never sent again, so its effect must not get lost.",
        source=RETRIES_PAGE,
        fix=_fixes.DURABLE,
    ),
    _case(
        "duplicates",
        "a decision three times",
        _check_duplicates,
        why="Veriff repeats a webhook whose answer it did not get, and users of the Customer Portal can send it again.",
        source=WEBHOOKS_PAGE,
    ),
    _case(
        "duplicates-concurrent",
        "a decision ten times at the same moment",
        _check_concurrent_duplicates,
        why="A repetition may arrive while the first delivery is still in work: a look before the work is not enough.",
    ),
    _case(
        "duplicates-other-bytes",
        "a decision twice, the second time with other white space",
        _check_reformatted_duplicate,
        why="A resent decision may be written differently, so a hash of its body does not identify it.",
        severity=CaseSeverity.WARNING,
    ),
    _case(
        "duplicates-after-days",
        "a decision of seven days ago, twice",
        _check_late_duplicate,
        why="The signature has no time, so a webhook can be repeated after days: by Veriff, or by a person who saw it.",
        source=RETRIES_PAGE,
    ),
    _case(
        "late-events",
        "a decision, and then the events that the attempt was submitted and started",
        _check_late_events,
        expects="accept each with 200; the status stays approved",
        why="Each webhook is repeated by itself, so an earlier step may arrive after the decision.",
        fix=_fixes.IN_ORDER,
    ),
    _case(
        "older-decision",
        "a decision, and then an older request for a resubmission",
        _check_older_decision,
        expects="accept each with 200; the status stays approved",
        why="Each webhook is repeated by itself, so an older decision may arrive after a newer one.",
        fix=_fixes.IN_ORDER,
    ),
    _case(
        "corrected-decision",
        "a decision, and then a later one on the same attempt: declined",
        _check_correction,
        expects="accept each with 200; the status becomes declined",
        why="Veriff can correct a decision, and sends the new one. A key of the session alone would drop it.",
        fix=_fixes.IN_ORDER,
    ),
    _case(
        "forged-effect",
        "a decision with a wrong signature",
        _check_forgery,
        expects="no effect",
        why="Anyone who knows the address could report any person as verified.",
        fix=_fixes.SIGNATURE,
    ),
    _case(
        "failing-handler",
        "a decision while your work fails; it is repeated unless the answer was 200",
        _check_failure,
        expects="one effect when the failure is over",
        why="Veriff repeats a webhook that is not answered 200, about every hour for seven days. An endpoint that "
        "answers 200 must repeat the work itself.",
        source=RETRIES_PAGE,
        fix=_fixes.DURABLE,
    ),
)
