"""How a session is decided: by call, by name, by itself, or by the end of its time."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

import pytest

from veriff_async.sandbox import SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from tests.sandbox.conftest import Caller, StartSandbox

pytestmark = pytest.mark.anyio

PICTURE: Final = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(500)).decode()
DAY: Final = 86_400


async def test_before_a_decision_there_is_none(caller: Caller) -> None:
    """An undecided session answers 200 with ``verification`` null, submitted or not."""
    session_id = await caller.create()
    before = await caller.decision(session_id)
    await caller.submit(session_id)
    after = await caller.decision(session_id)

    for reply in (before, after):
        assert 200 == reply.status
        assert ("success", None) == (reply.json["status"], reply.json["verification"])


async def test_an_approval_is_shaped_as_those_really_received(caller: Caller) -> None:
    """Keys and their order are those of real payloads; what nobody gave is null, the rest is what was sent."""
    person = {"firstName": "Ada", "lastName": "Lovelace", "dateOfBirth": "1815-12-10"}
    session_id = await caller.create(
        vendorData="user-42", person=person, document={"type": "PASSPORT", "country": "GB"}
    )
    await caller.submit(session_id)

    caller.sandbox.decide(session_id, "approved")

    root = (await caller.decision(session_id)).json
    assert ["status", "verification", "technicalData"] == list(root)
    assert {"ip": None} == root["technicalData"]
    verification = root["verification"]
    assert (session_id, "user-42", "approved", 9001) == tuple(
        verification[name] for name in ("id", "vendorData", "status", "code")
    )
    assert (None, None, []) == tuple(verification[name] for name in ("reason", "reasonCode", "comments"))
    assert ("Ada", "Lovelace", "1815-12-10", None) == tuple(
        verification["person"][name] for name in ("firstName", "lastName", "dateOfBirth", "idNumber")
    )
    assert ("PASSPORT", "GB", None) == tuple(verification["document"][name] for name in ("type", "country", "number"))
    order = "acceptanceTime decisionTime code id vendorData status reason reasonCode person document comments"
    assert order.split() == [name for name in verification if name in order.split()]
    assert 4 == UUID(verification["attemptId"]).version
    assert {"endUserId", "additionalVerifiedData"} <= verification.keys()


async def test_a_decision_holds_what_veriff_has_words_for(caller: Caller) -> None:
    """Of the person that was given, a decision has the documented members only, and the short word for a gender."""
    person = {"firstName": "Ada", "gender": "FEMALE", "email": "ada@example.com", "phoneNumber": "+1", "secret": 1}
    session_id = await caller.create(person=person, document={"type": "ID_CARD", "secret": 2})
    await caller.submit(session_id)

    caller.sandbox.decide(session_id, "approved", person={"occupation": "countess"})

    verification = (await caller.decision(session_id)).json["verification"]
    assert ("F", "countess") == (verification["person"]["gender"], verification["person"]["occupation"])
    assert not {"email", "phoneNumber", "secret"} & verification["person"].keys()
    assert "secret" not in verification["document"]


async def test_text_that_is_no_unicode_comes_back(caller: Caller) -> None:
    """Half a surrogate pair, which JSON can say and UTF-8 cannot, is answered and not an error of the server."""
    session_id = await caller.create(vendorData="\ud800", person={"firstName": "\udfff"})
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    verification = (await caller.decision(session_id)).json["verification"]
    assert ("\ud800", "\udfff") == (verification["vendorData"], verification["person"]["firstName"])


@pytest.mark.parametrize(
    ("status", "code"),
    [("approved", 9001), ("declined", 9102), ("resubmission_requested", 9103), ("review", 9121)],
)
async def test_each_decision_has_its_code(caller: Caller, status: str, code: int) -> None:
    """Status and code of a decision belong together."""
    session_id = await caller.create()
    await caller.submit(session_id)

    caller.sandbox.decide(session_id, status)

    verification = (await caller.decision(session_id)).json["verification"]
    assert (status, code) == (verification["status"], verification["code"])


async def test_reason_person_and_document_are_the_testers_to_choose(caller: Caller) -> None:
    """A decision says what the caller of `decide` wants it to say."""
    session_id = await caller.create(person={"firstName": "Ada"})
    await caller.submit(session_id)

    caller.sandbox.decide(
        session_id,
        "declined",
        reason="Physical document not used",
        reason_code=101,
        person={"firstName": "ADA", "gender": "F"},
        document={"number": "AB123"},
    )

    verification = (await caller.decision(session_id)).json["verification"]
    assert ("Physical document not used", 101) == (verification["reason"], verification["reasonCode"])
    assert ("ADA", "F") == (verification["person"]["firstName"], verification["person"]["gender"])
    assert "AB123" == verification["document"]["number"]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (SandboxOptions(code_is_null=True), "code", None),
        (SandboxOptions(reason_code_as_text=True), "reasonCode", "101"),
        (SandboxOptions(), "acceptanceTime", "2025-01-01T00:00:00.000000Z"),
        (SandboxOptions(time_digits=3), "acceptanceTime", "2025-01-01T00:00:00.000Z"),
        (SandboxOptions(time_digits=3), "decisionTime", "2025-01-01T00:00:01.500Z"),
    ],
    ids=str,
)
async def test_rules_choose_between_what_was_documented_and_what_was_seen(
    start_sandbox: StartSandbox, options: SandboxOptions, name: str, value: object
) -> None:
    """Each difference between documents and real payloads can be had either way."""
    async with start_sandbox(clock=VirtualClock(), options=options) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.advance(1.5)
        caller.sandbox.decide(session_id, "declined", reason_code=101)

        assert value == (await caller.decision(session_id)).json["verification"][name]


@pytest.mark.parametrize(
    ("first_name", "status"),
    [
        ("Approve", "approved"),
        ("approved", "approved"),
        ("DECLINE", "declined"),
        ("Declined", "declined"),
        ("Resubmit", "resubmission_requested"),
        ("Resubmission", "resubmission_requested"),
    ],
)
async def test_magic_first_names_decide_by_themselves(caller: Caller, first_name: str, status: str) -> None:
    """The first names of test integrations bring their decision once the session is submitted."""
    session_id = await caller.create(person={"firstName": first_name})
    assert (await caller.decision(session_id)).json["verification"] is None

    await caller.submit(session_id)
    caller.sandbox.advance(0)

    assert status == (await caller.decision(session_id)).json["verification"]["status"]


async def test_other_first_names_wait_for_somebody_to_decide(caller: Caller) -> None:
    """A test integration decides nothing by itself."""
    session_id = await caller.create(person={"firstName": "April"})
    await caller.submit(session_id)
    caller.sandbox.advance(DAY)

    assert (await caller.decision(session_id)).json["verification"] is None


async def test_a_sandbox_may_decide_by_itself(start_sandbox: StartSandbox) -> None:
    """`decide_after` approves a submitted session that many seconds later, and not before."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        caller.sandbox.advance(60)
        await caller.submit(session_id)
        caller.sandbox.advance(29)
        assert (await caller.decision(session_id)).json["verification"] is None

        caller.sandbox.advance(1)

        assert "approved" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_what_a_person_decided_first_stays(start_sandbox: StartSandbox) -> None:
    """The decision that a sandbox would take by itself never comes over one that was taken by call."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.decide(session_id, "declined")
        caller.sandbox.advance(60)

        assert "declined" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_a_resubmission_opens_a_new_attempt(caller: Caller) -> None:
    """After it the same session takes pictures and one submit again, under another attempt id."""
    session_id = await caller.create()
    await caller.upload(session_id, PICTURE)
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "resubmission_requested", reason_code=203)
    first = (await caller.decision(session_id)).json["verification"]

    assert 200 == (await caller.upload(session_id, PICTURE)).status
    assert 200 == (await caller.submit(session_id)).status
    assert (400, "1304") == (await caller.submit(session_id)).refusal
    caller.sandbox.decide(session_id, "approved")

    second = (await caller.decision(session_id)).json["verification"]
    assert ("resubmission_requested", "approved") == (first["status"], second["status"])
    assert first["attemptId"] != second["attemptId"]
    assert first["id"] == second["id"] == session_id


async def test_the_tenth_resubmission_is_a_decline(caller: Caller) -> None:
    """Nine are allowed; what would be the tenth is declined with code 539."""
    session_id = await caller.create(person={"firstName": "Resubmit"})
    statuses = []
    for _ in range(10):
        await caller.submit(session_id)
        caller.sandbox.advance(0)
        verification = (await caller.decision(session_id)).json["verification"]
        statuses.append((verification["status"], verification["reasonCode"]))

    assert [("resubmission_requested", 203)] * 9 + [("declined", 539)] == statuses


async def test_a_decision_has_the_time_at_which_it_was_due(start_sandbox: StartSandbox) -> None:
    """However far the clock is moved at once, each decision comes at its own time."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)

        caller.sandbox.advance(DAY)

        verification = (await caller.decision(session_id)).json["verification"]
        assert "2025-01-01T00:00:30.000000Z" == verification["decisionTime"]


async def test_a_final_decision_ends_the_session(caller: Caller) -> None:
    """Nothing can be uploaded to, or submitted in, a session that was approved."""
    session_id = await caller.create()
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    assert 409 == (await caller.upload(session_id, PICTURE)).refusal[0]
    assert (400, "1304") == (await caller.submit(session_id)).refusal


@pytest.mark.parametrize(
    ("uploads", "submits", "abandoned_code", "status", "code"),
    [
        (0, 0, 9104, "expired", 9104),
        (1, 0, 9104, "abandoned", 9104),
        (0, 1, 9104, "abandoned", 9104),
        (1, 1, 9121, "abandoned", 9121),
    ],
)
async def test_a_session_ends_after_seven_days(  # noqa: PLR0913, PLR0917
    start_sandbox: StartSandbox, uploads: int, submits: int, abandoned_code: Literal[9104, 9121], status: str, code: int
) -> None:
    """It is expired when nobody began it and abandoned when somebody did, without a decision time."""
    async with start_sandbox(clock=VirtualClock(), options=SandboxOptions(abandoned_code=abandoned_code)) as caller:
        session_id = await caller.create()
        for _ in range(uploads):
            await caller.upload(session_id, PICTURE)
        for _ in range(submits):
            await caller.submit(session_id)
        caller.sandbox.advance(7 * DAY - 1)
        assert (await caller.decision(session_id)).json["verification"] is None

        caller.sandbox.advance(1)

        verification = (await caller.decision(session_id)).json["verification"]
        assert (status, code, None) == (verification["status"], verification["code"], verification["decisionTime"])


async def test_a_decided_session_does_not_expire(caller: Caller) -> None:
    """Seven days later an approval is still one."""
    session_id = await caller.create()
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    caller.sandbox.advance(8 * DAY)

    assert "approved" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_bodies_are_compact_json(caller: Caller) -> None:
    """Answers carry no spaces between their parts and no escapes for what is not ASCII, as real ones."""
    session_id = await caller.create(vendorData="José ✓")
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    body = (await caller.decision(session_id)).body

    assert "José ✓" in body.decode()
    assert not re.search(rb"[,:]\s", body.replace("José ✓".encode(), b""))
