"""Taking webhooks: verified, read and recorded, against what other vendors' libraries do with their own.

Every contender gets bodies of the same size, about as many sessions, signed as its vendor signs: an envelope of its
vendor's around the same members. Only ours records: `receive` goes on to the inbox. Ours decodes the person, the
document and other parts of a decision when they are first read, so one row reads all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import fields

from benchmarks.bodies import ORDINARY, RICH, as_body, unlike
from benchmarks.measure import Spread, in_turn, ratios
from benchmarks.table import Goal, Row, Table
from benchmarks.work import Needs
from veriff_async import Credentials, Decision, DecisionEvent, WebhookReceiver, parse_webhook
from veriff_async._protocol.json import decode, parse
from veriff_async.inbox import MemoryInbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Plan

__all__ = ("run",)

_KEY: Final = "6f1c0f43-9a35-4d1e-8a46-0d5a3f7b9c21"
_SECRET: Final = "benchmark-secret"  # noqa: S105  a made-up one
_CREDENTIALS: Final = Credentials(_KEY, _SECRET)
_OURS: Final = "veriff-async, parse_webhook"
_RECEIVED: Final = "veriff-async, receive in memory"
_WITHOUT_ORJSON: Final = "veriff-async, receive in memory, without orjson"
_READ: Final = "veriff-async, receive in memory, every part read"
_DIDIT: Final = "didit-sdk"
_RATE: Final = "each second and core"
_COLUMN: Final = f"x {_DIDIT}"
_AT_LEAST: Final = {_OURS: 1.8, _RECEIVED: 1.8, _WITHOUT_ORJSON: 1.5}
_MANY: Final = 2_000
_SMOKE_MANY: Final = 20

Taking: TypeAlias = "Callable[[], None]"
"""Takes every webhook of a batch once."""


def run(plan: Plan) -> list[Table]:
    """Take webhooks with decisions of two sizes."""
    return [_table(name, decision, plan) for name, decision in (("ordinary", ORDINARY), ("rich", RICH))]


def _table(name: str, decision: dict[str, object], plan: Plan) -> Table:
    many = _SMOKE_MANY if plan.smoke else _MANY
    bodies = [as_body(unlike(decision, number)) for number in range(many)]
    lacking = {contender: needs.missing for contender, needs in _NEEDS.items()}
    contenders = tuple(contender for contender in _CONTENDERS if not lacking.get(contender))
    found = in_turn(contenders, plan.rounds, lambda contender: _seconds(_CONTENDERS[contender](bodies)))
    cells = {contender: {_RATE: Spread.of(many / seconds for seconds in found[contender])} for contender in contenders}
    goals: tuple[Goal, ...] = ()
    if _DIDIT in found:
        for contender in contenders:
            cells[contender][_COLUMN] = ratios(found[_DIDIT], found[contender])
        goals = tuple(Goal(row=row, column=_COLUMN, at_least=least) for row, least in _AT_LEAST.items() if row in found)
    return Table(
        subject="webhooks",
        title=f"webhooks taken, decisions, {name}, {len(bodies[0])} bytes",
        columns=(_RATE, _COLUMN) if _DIDIT in found else (_RATE,),
        rows=tuple(Row(contender, cells[contender]) for contender in contenders),
        goals=() if plan.smoke else goals,
        notes=tuple(f"{contender} left out: {why}" for contender, why in lacking.items() if why),
    )


def _seconds(take: Taking) -> float:
    """Return the processor time of a batch: the time of one core without other load."""
    began = time.process_time()
    take()
    return time.process_time() - began


def _signature(payload: bytes) -> str:
    return hmac.new(_SECRET.encode(), payload, hashlib.sha256).hexdigest()


def _signed(bodies: Sequence[bytes]) -> list[tuple[dict[str, str], bytes]]:
    """Return webhooks as they come, with the headers that stand around them."""
    common = {"host": "example.org", "content-type": "application/json", "accept": "*/*", "x-auth-client": _KEY}
    return [({**common, "x-hmac-signature": _signature(body)}, body) for body in bodies]


def _parsed(bodies: Sequence[bytes]) -> Taking:
    """Verify and read."""
    webhooks = _signed(bodies)

    def take() -> None:
        for headers, body in webhooks:
            parse_webhook(headers, body, _CREDENTIALS)

    return take


def _received(bodies: Sequence[bytes], *, is_read: bool = False) -> Taking:
    """Verify, read and record: all that a request takes but HTTP.

    Args:
        bodies: The bodies.
        is_read: Read every part of every decision too, as a program would that stores all of it.
    """
    webhooks = _signed(bodies)
    names = [attribute.name for attribute in fields(Decision)] if is_read else []

    async def receive() -> None:
        async with MemoryInbox() as inbox, WebhookReceiver(_CREDENTIALS, inbox) as receiver:
            for headers, body in webhooks:
                result = await receiver.receive(headers, body)
                if is_read:
                    assert isinstance(result.event, DecisionEvent)
                    for name in names:
                        getattr(result.event.decision, name)
            assert receiver.statistics().recorded == len(webhooks)

    return lambda: asyncio.run(receive())


def _received_without_orjson(bodies: Sequence[bytes]) -> Taking:
    """Do the same in an environment that lacks the extra `speed`."""
    take = _received(bodies)

    def take_without() -> None:
        found = decode.load_object.__globals__["parse_json"]
        decode.load_object.__globals__["parse_json"] = parse.parse_with_standard_library
        try:
            take()
        finally:
            decode.load_object.__globals__["parse_json"] = found

    return take_without


def _filled(message: dict[str, object], member: dict[str, object], more: dict[str, object], size: int) -> bytes:
    """Write a message of the same size as ours, with as many of its members as fit."""
    for name, value in more.items():
        member[name] = value
        if len(as_body(message)) > size:
            del member[name]
    lacking = size - len(as_body(message)) - len(',"file":""')
    if lacking >= 0:
        member["file"] = "x" * lacking
    return as_body(message)


def _by_didit(bodies: Sequence[bytes]) -> Taking:
    """Verify the signature that didit-sdk prefers, of the canonical form, and read into its models."""
    from didit.webhooks import compute_signature, parse_webhook_payload  # noqa: PLC0415  it may not be here

    now = int(time.time())
    webhooks: list[tuple[bytes, dict[str, str]]] = []
    for body in bodies:
        whole = json.loads(body)["verification"]
        person, document, session = whole["person"], whole["document"], whole["id"]
        check: dict[str, object] = {
            "node_id": "feature_ocr",
            "status": "Approved",
            "first_name": person["firstName"],
            "last_name": person["lastName"],
            "document_number": document["number"],
            "country": "EST",
            "document_type": "Identity Card",
            "date_of_birth": person["dateOfBirth"],
            "expiration_date": document["validUntil"],
            "warnings": [],
        }
        more = {**person, **document, **whole}
        decided = {"session_id": session, "status": "Approved", "id_verifications": [check]}
        message = {"session_id": session, "status": "Approved", "webhook_type": "status.updated", "event_id": session}
        message |= {"created_at": now, "timestamp": now, "vendor_data": whole["vendorData"], "decision": decided}
        written = _filled(message, check, more, len(body))
        headers = {"content-type": "application/json", "x-timestamp": str(now)}
        headers["x-signature-v2"] = compute_signature(_SECRET, json.loads(written))
        webhooks.append((written, headers))

    def take() -> None:
        for body, headers in webhooks:
            parse_webhook_payload(body, headers, _SECRET)

    return take


def _by_stripe(bodies: Sequence[bytes]) -> Taking:
    """Verify the signature of an event about a Stripe Identity session, and read it into its objects."""
    from stripe import Webhook  # noqa: PLC0415  it may not be here

    now = int(time.time())
    webhooks: list[tuple[bytes, str]] = []
    for body in bodies:
        whole = json.loads(body)["verification"]
        outputs = {"first_name": whole["person"]["firstName"], "last_name": whole["person"]["lastName"]}
        session = {"id": whole["id"], "object": "identity.verification_session", "status": "verified"}
        session |= {"client_reference_id": whole["vendorData"], "verified_outputs": outputs}
        message = {"id": whole["id"], "object": "event", "type": "identity.verification_session.verified"}
        message |= {"created": now, "data": {"object": session}}
        more = {**whole["person"], **whole["document"], **whole}
        written = _filled(message, outputs, more, len(body))
        webhooks.append((written, f"t={now},v1={_signature(b'%d.' % now + written)}"))

    def take() -> None:
        for body, header in webhooks:
            Webhook.construct_event(body, header, _SECRET)

    return take


_CONTENDERS: Final[dict[str, Callable[[Sequence[bytes]], Taking]]] = {
    _OURS: _parsed,
    _RECEIVED: _received,
    _WITHOUT_ORJSON: _received_without_orjson,
    _READ: partial(_received, is_read=True),
    _DIDIT: _by_didit,
    "stripe": _by_stripe,
}
_NEEDS: Final = {
    _RECEIVED: Needs(modules=("orjson",)),
    _DIDIT: Needs(modules=("didit",)),
    "stripe": Needs(modules=("stripe",)),
}
