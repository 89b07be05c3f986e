"""Each known fault of endpoints in three languages is found, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from aiohttp import ClientSession
from anyio import to_thread

from tests.receiver_check.conftest import CREDENTIALS
from veriff_async.testing import RECEIVER_CASES, CaseOutcome, Effects, check_receiver

if TYPE_CHECKING:
    from tests.receiver_check.conftest import Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

FORGED: Final = (
    "signature-wrong-secret signature-empty-secret signature-undefined-secret signature-api-key signature-hash "
    "signature-of-nothing signature-short signature-not-hex signature-not-ascii body-changed body-written-again "
    "signature-of-other-event api-key-other api-key-missing families-contradict secret-revoked forged-effect"
)
UNREADABLE: Final = "body-not-json body-empty body-not-utf8"
OTHER_KINDS: Final = "fullauto watchlist user-status ine curp ine-curp unknown-kind"
WRITTEN_AGAIN: Final = "body-written-again body-white-space body-escapes body-numbers body-duplicate-members"

FAULTS: Final = {
    ("python", "unsigned"): "signature-missing signature-empty signature-legacy-header",
    ("python", "never-checks"): f"signature-missing signature-empty signature-legacy-header {FORGED}",
    ("python", "only-checks-presence"): FORGED,
    ("python", "ignores-api-key"): "api-key-other api-key-missing",
    ("python", "writes-json-again"): f"{WRITTEN_AGAIN} {UNREADABLE} body-deep",
    ("python", "empty-secret"): "signature-empty-secret",
    ("python", "one-secret"): "secret-second",
    ("python", "accepts-prefix"): "signature-missing signature-empty signature-legacy-header signature-short",
    ("python", "key-is-session"): "corrected-decision",
    ("python", "key-is-body"): "duplicates-other-bytes",
    ("python", "no-deduplication"): ("duplicates duplicates-concurrent duplicates-after-days duplicates-other-bytes"),
    ("python", "last-one-wins"): "late-events older-decision",
    ("python", "loses-events"): "failing-handler",
    ("python", "shows-signature"): "response-details",
    ("python", "debug-page"): f"response-details {UNREADABLE} body-deep",
    ("python", "strict-kinds"): OTHER_KINDS,
    ("python", "strict-statuses"): f"{OTHER_KINDS} unknown-status body-wrong-types",
    ("node", "throws-for-lengths"): "signature-empty signature-short signature-not-ascii",
    ("node", "reads-x-only"): "headers-vrf-only",
    ("node", "reads-vrf-only"): "headers-x-only",
    ("node", "lower-case-only"): "signature-upper-case",
    ("node", "stringify"): WRITTEN_AGAIN,
    ("node", "undefined-secret"): "signature-undefined-secret",
    ("node", "api-key-as-secret"): "signature-api-key",
    ("node", "reads-null"): "body-null",
    ("node", "exact-type"): "content-type-charset",
    ("node", "small-limit"): "body-large",
    ("node", "no-limit"): "body-huge",
    ("node", "text-of-chunks"): "chunked-body",
    ("node", "shows-stack"): f"response-details {UNREADABLE}",
    ("perl", "pattern"): "signature-short",
    ("perl", "header-case"): "headers-capitalised",
    ("perl", "strict-members"): (
        "unknown-members body-escapes body-numbers body-large body-duplicate-members slow-body"
    ),
}
"""The cases that fail for each fault of each endpoint."""

ALWAYS: Final = {"python": {"chunked-body"}, "node": set[str](), "perl": {"chunked-body"}}
"""Cases that fail without a fault: these servers do not read bodies in chunks."""

SLOW: Final = {"slow-body", "body-zip-bomb", "body-huge", "burst", "response-time", "expect-continue"}
"""Cases that are left out for faults that they cannot find."""

MISSING: Final = {"key-is-session", "last-one-wins", "loses-events"}
"""Faults without the effect that a case waits for."""

GROUPS: Final = {case.name: case.group.value for case in RECEIVER_CASES}


async def check(servers: Servers, language: str, fault: str, only: set[str], *, deadline: float = 30.0) -> set[str]:
    """Check an endpoint, and return the names of the cases that failed."""
    url = await to_thread.run_sync(servers.url, language)
    async with ClientSession() as http:

        async def count_effects(session_id: str) -> Effects:
            async with http.get(f"{url}/effects/{fault}/{session_id}") as response:
                found = await response.json(content_type=None)
            return Effects(found["count"], found["status"])

        async def set_failing(is_failing: bool) -> None:  # noqa: FBT001
            async with http.get(f"{url}/{'fail' if is_failing else 'recover'}") as response:
                assert 200 == response.status

        report = await check_receiver(
            f"{url}/{fault}",
            CREDENTIALS,
            only=only,
            count_effects=count_effects,
            set_failing=set_failing if language == "python" else None,
            revoked_secret="deleted",
            deadline=deadline,
            slow_seconds=0.05,
            settle_seconds=0.0,
            effect_seconds=0.2 if fault in MISSING else 30.0,
            large_bytes=2 * 1024 * 1024,
        )
    assert "" == report.problem
    return {result.case.name for result in report.results if result.outcome is CaseOutcome.FAILED}


@pytest.mark.parametrize(("language", "fault"), FAULTS, ids=str)
async def test_fault_is_found(servers: Servers, language: str, fault: str) -> None:
    """The cases of a fault fail; the others of their groups pass."""
    expected = set(FAULTS[language, fault].split())
    groups = {GROUPS[name] for name in expected}
    only = {case.name for case in RECEIVER_CASES if case.group.value in groups} - (SLOW - expected)

    found = await check(servers, language, fault, only)

    # Whether the pieces of a slow body arrive one by one is up to the system.
    assert expected == found - (ALWAYS[language] - expected) - ({"slow-body"} - expected)


async def test_race_is_found(servers: Servers) -> None:
    """An endpoint that looks for a duplicate first and marks the event after the work acts twice."""
    only = {"duplicates-concurrent"}

    assert only == await check(servers, "python", "race", only)


@pytest.mark.parametrize("language", ALWAYS)
async def test_endpoint_without_faults_passes(servers: Servers, language: str) -> None:
    """No case fails for an endpoint that does everything right."""
    assert ALWAYS[language] == await check(servers, language, "none", set())


async def test_redirect_is_found(servers: Servers) -> None:
    """A webhook that is redirected is lost."""
    only = {"redirect", "decision-approved", "signature-missing"}

    assert only == await check(servers, "python", "redirect", only)


async def test_other_success_than_200_is_found(servers: Servers) -> None:
    """Veriff documents 200, so another success is a warning."""
    assert {"decision-approved"} == await check(servers, "python", "answers-204", {"decision-approved"})


@pytest.mark.parametrize("fault", ["slow", "endless"])
async def test_late_response_is_found(servers: Servers, fault: str) -> None:
    """A response that comes after the deadline, or breaks off, does not count."""
    only = {"decision-approved"}

    assert only == await check(servers, "perl", fault, only, deadline=0.3 if fault == "slow" else 30.0)


async def test_body_that_is_read_once_is_found(servers: Servers) -> None:
    """An endpoint that takes the first packet for the whole body loses large webhooks."""
    assert {"body-large"} == await check(servers, "perl", "one-read", {"body-large"})
