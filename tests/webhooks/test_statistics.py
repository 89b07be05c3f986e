"""The counters of a receiver: each request is in exactly one of them, and the snapshot does not change later."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import pytest

from tests.conditions import until
from tests.webhooks.conftest import CREDENTIALS, OwnInbox, message, sign_headers
from veriff_async import Credentials, SignatureError, WebhookReceiver
from veriff_async.inbox import MemoryInbox, dump_event
from veriff_async.testing.factories import decision_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


async def drip() -> AsyncGenerator[bytes]:
    """Yield a part of a body, and break off as a connection does."""
    yield b"{"
    raise ConnectionResetError


async def test_each_refusal_is_counted_under_its_reason() -> None:
    """Every reason has its own name, the total is their sum, and no refused request counts as recorded."""
    body, foreign = message(), Credentials("6f1b1b52-8d2c-4e0e-9b6f-0a5a3f0e8a11", "new")
    signed = sign_headers(body)
    async with WebhookReceiver(
        CREDENTIALS, MemoryInbox(), max_body=1000, allowed_networks=["192.0.2.0/24"]
    ) as receiver:
        requests: dict[str, tuple[str, dict[str, str], bytes | AsyncGenerator[bytes]]] = {
            "not_post": ("GET", signed, body),
            "not_json": ("POST", {**signed, "content-type": "text/plain"}, body),
            "too_large": ("POST", signed, bytes(1001)),
            "incomplete": ("POST", signed, drip()),
            "missing": ("POST", sign_headers(body, x_hmac_signature=None), body),
            "malformed": ("POST", sign_headers(body, x_hmac_signature="1"), body),
            "mismatch": ("POST", sign_headers(body, x_hmac_signature="0" * 64), body),
            "foreign_client": ("POST", sign_headers(body, x_auth_client=foreign.api_key), body),
            "unreadable": ("POST", sign_headers(b"{"), b"{"),
        }
        for method, headers, content in requests.values():
            await receiver.handle(method, headers, content, remote="192.0.2.1")
        await receiver.handle("POST", signed, body, remote="198.51.100.1")
        with pytest.raises(SignatureError):
            await receiver.receive(sign_headers(body, x_hmac_signature="0" * 64), body)
        statistics = receiver.statistics()

    assert dict.fromkeys([*requests, "not_allowed"], 1) | {"mismatch": 2} == statistics.refused_by_reason
    assert (11, 0, None) == (statistics.refused, statistics.recorded, statistics.last_recorded_at)


async def test_records_are_counted_as_new_ignored_or_duplicate() -> None:
    """A repetition is a duplicate, and a message that came too late is ignored; bytes are those of verified bodies."""
    started, submitted = message(), message("submitted")
    async with WebhookReceiver(CREDENTIALS, MemoryInbox()) as receiver:
        before = datetime.now(UTC)
        for body in (submitted, submitted, started):
            await receiver.receive(sign_headers(body), body)
        statistics = receiver.statistics()

    assert (3, 1, 1) == (statistics.recorded, statistics.duplicates, statistics.ignored)
    assert 2 * len(submitted) + len(started) == statistics.bytes_received
    assert statistics.last_recorded_at is not None
    assert before - timedelta(seconds=1) < statistics.last_recorded_at <= datetime.now(UTC)
    assert statistics.last_webhook_age is None  # neither message states a time


async def test_age_of_a_webhook_is_the_time_since_the_decision() -> None:
    """The age counts from the time of the decision; a repetition, which is late by nature, does not change it."""
    decided, before = datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC)
    body = dump_event(decision_event("8f0d1ab6", "approved", minute=0))
    async with WebhookReceiver(CREDENTIALS, MemoryInbox()) as receiver:
        await receiver.receive(sign_headers(body), body)
        first = receiver.statistics().last_webhook_age
        await receiver.receive(sign_headers(body), body)

    assert first is not None
    assert before <= decided + timedelta(seconds=first + 0.001) <= datetime.now(UTC) + timedelta(seconds=0.001)
    assert receiver.statistics().last_webhook_age == first


async def test_snapshot_is_a_copy_with_the_present_load() -> None:
    """Webhooks that the inbox is recording are counted while it does; a snapshot neither changes nor can be changed."""
    inbox, body = OwnInbox(waits=True), message()
    async with WebhookReceiver(CREDENTIALS, inbox) as receiver:
        request = asyncio.ensure_future(receiver.handle("POST", sign_headers(body), body))
        await until(inbox.kept.is_set)
        during = receiver.statistics()
        await receiver.handle("GET", {}, b"")
        inbox.may_end.set()
        await request
        after = receiver.statistics()

    assert (1, 0, 0) == (during.active_records, during.recorded, during.refused)
    assert {} == during.refused_by_reason
    assert (0, 1, 1) == (after.active_records, after.recorded, after.refused)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        after.recorded = 0  # type: ignore[misc]
