"""Operations on the rules and on the whole state of the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anyio import to_thread

from veriff_async._protocol.arguments import LARGEST
from veriff_async.sandbox._arguments import LONGEST
from veriff_async.sandbox._control.fields import Field, Flag, ListOf, MapOf, Number, Text, Word
from veriff_async.sandbox._control.operation import FILE, Download, Operation
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._rules import SandboxRules
from veriff_async.sandbox._seed import MAX_SEEDED, SEED_STATUSES
from veriff_async.sandbox._snapshot import restore_snapshot, take_snapshot

if TYPE_CHECKING:
    from pathlib import Path

    from veriff_async.sandbox._control.operation import Arguments, Context

__all__ = ("RULE_OPERATIONS", "RULE_TEXTS")

_FLAGS: Final = {
    "reason_code_as_text": "Whether reasonCode is a string.",
    "code_is_null": "Whether code is null.",
    "end_user_id_must_be_uuid": "Whether an endUserId that is not a UUID is refused.",
    "sign_errors": "Whether error responses are signed.",
    "full_auto": "Whether the integration decides without a human.",
    "upload_starts_attempt": "Whether the first upload starts the attempt.",
    "allow_deletion": "Whether sessions can be deleted.",
    "feedback_signs_body": "Whether the signature of the feedback API covers the body.",
}
_NUMBERS: Final = {
    "time_digits": "Digits of the fraction of a second: 3 or 6.",
    "abandoned_code": "Code of an abandoned session: 9104 or 9121.",
    "oversize_status": "HTTP status for a file that is too large.",
    "face_quota": "Number of faces that can be imported.",
}
_SECONDS: Final = {
    "resubmission_hold_seconds": "Seconds for which a request for resubmission is held back.",
    "session_lifetime_days": "Days after which an undecided session ends.",
    "webhook_retry_seconds": "Seconds between attempts to deliver a webhook.",
    "webhook_retry_days": "Days after which delivery is given up.",
    "webhook_timeout_seconds": "Seconds in which a receiver must respond.",
}
_ZIP: Final = "application/zip"
_URL: Final = Text(max_length=2000)
_NUMBER: Final = Number(highest=LONGEST)
_RULES: Final = (
    Field(
        "decide_after",
        _NUMBER,
        "Seconds from the submission of a session to its approval; null leaves the decision to `decide`.",
        is_nullable=True,
    ),
    Field("webhook_url", _URL, "URL for decisions; null posts none.", is_nullable=True),
    Field("webhook_urls", MapOf(Word(tuple(WebhookKind)), _URL), "URLs by kinds of webhooks."),
    *(Field(name, Flag(), text) for name, text in _FLAGS.items()),
    *(Field(name, Number(highest=LONGEST, whole=True), text) for name, text in _NUMBERS.items()),
    *(Field(name, _NUMBER, text) for name, text in _SECONDS.items()),
    Field(
        "requests_per_second",
        _NUMBER,
        "Requests a second above which the API responds with 429; null for no limit.",
        is_nullable=True,
    ),
)
RULE_TEXTS: Final = {field.name: field.text for field in _RULES}
"""What each rule means."""


def _rules(context: Context, _: Arguments) -> SandboxRules:
    return context.service.rules


def _change_rules(context: Context, values: Arguments) -> SandboxRules:
    context.service.change_rules(**values)
    return context.service.rules


def _reset(context: Context, _: Arguments) -> object:
    context.service.reset()
    return {}


async def _seed(context: Context, values: Arguments) -> object:
    # Ten thousand sessions take seconds, in which other requests are answered.
    return {"session_ids": await to_thread.run_sync(lambda: context.service.seed(**values))}


async def _snapshot(context: Context, _: Arguments) -> Download:
    archive = await to_thread.run_sync(take_snapshot, context.service)
    return Download(body=archive, media_type=_ZIP, name="veriff-sandbox.zip")


async def _restore(context: Context, values: Arguments) -> object:
    file: Path = values["file"]
    await to_thread.run_sync(restore_snapshot, context.service, file)
    return {}


RULE_OPERATIONS: Final = (
    Operation("get_rules", "GET", "/rules", "Show the present rules.", _rules, SandboxRules, python=("rules",)),
    Operation(
        "change_rules",
        "PATCH",
        "/rules",
        "Change rules while the sandbox runs, all of them at once or none.",
        _change_rules,
        SandboxRules,
        body=_RULES,
    ),
    Operation(
        "reset",
        "POST",
        "/reset",
        "Forget everything that has happened; credentials, rules, chaos profile and clock stay.",
        _reset,
        {},
    ),
    Operation(
        "seed",
        "POST",
        "/seed",
        "Add sessions with invented people in some states.",
        _seed,
        {"session_ids": tuple[str, ...]},
        body=(
            Field("sessions", Number(lowest=1, highest=MAX_SEEDED, whole=True), "Number of sessions; 20 by default."),
            Field(
                "statuses",
                ListOf(Word(SEED_STATUSES)),
                "The statuses that they have, each equally often; all by default.",
            ),
            Field(
                "seed",
                Number(highest=LARGEST, whole=True),
                "The same number gives the same sessions in a sandbox that was reset.",
            ),
        ),
        is_change=True,
    ),
    Operation(
        "snapshot",
        "GET",
        "/snapshot",
        "Download the whole state as one ZIP archive.",
        _snapshot,
        FILE,
        python=("snapshot", "snapshot_sync"),
    ),
    Operation(
        "restore",
        "PUT",
        "/snapshot",
        "Replace the whole state by that of a snapshot, of this sandbox or another one.",
        _restore,
        {},
        upload=_ZIP,
        is_change=True,
        python=("restore", "restore_sync"),
    ),
)
