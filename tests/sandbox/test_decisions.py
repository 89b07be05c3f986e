"""Decisions: by call, by first name, by `decide_after`, and by the end of a session's lifetime."""

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


async def test_undecided_session_has_null_verification(caller: Caller) -> None:
    """An undecided session responds with 200 and ``verification`` null, submitted or not."""
    session_id = await caller.create()
    before = await caller.decision(session_id)
    await caller.submit(session_id)
    after = await caller.decision(session_id)

    for reply in (before, after):
        assert 200 == reply.status
        assert ("success", None) == (reply.json["status"], reply.json["verification"])


async def test_approval_has_the_form_of_real_payloads(caller: Caller) -> None:
    """Members and their order are those of real payloads; missing values are null."""
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


async def test_decision_has_documented_members_of_the_person(caller: Caller) -> None:
    """A decision repeats only documented members of the person, and the gender as one letter."""
    person = {"firstName": "Ada", "gender": "FEMALE", "email": "ada@example.com", "phoneNumber": "+1", "secret": 1}
    session_id = await caller.create(person=person, document={"type": "ID_CARD", "secret": 2})
    await caller.submit(session_id)

    caller.sandbox.decide(session_id, "approved", person={"occupation": "countess"})

    verification = (await caller.decision(session_id)).json["verification"]
    assert ("F", "countess") == (verification["person"]["gender"], verification["person"]["occupation"])
    assert not {"email", "phoneNumber", "secret"} & verification["person"].keys()
    assert "secret" not in verification["document"]


async def test_lone_surrogate_is_echoed(caller: Caller) -> None:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, does not cause a server error."""
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
    """Each status of a decision has its code."""
    session_id = await caller.create()
    await caller.submit(session_id)

    caller.sandbox.decide(session_id, status)

    verification = (await caller.decision(session_id)).json["verification"]
    assert (status, code) == (verification["status"], verification["code"])


async def test_decide_sets_reason_person_and_document(caller: Caller) -> None:
    """A decision has the values passed to `decide`."""
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
async def test_options_choose_documented_or_seen_behaviour(
    start_sandbox: StartSandbox, options: SandboxOptions, name: str, value: object
) -> None:
    """Each difference between documents and real payloads is an option."""
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
async def test_first_name_decides_after_submission(caller: Caller, first_name: str, status: str) -> None:
    """The first names of test integrations cause their decision once the session is submitted."""
    session_id = await caller.create(person={"firstName": first_name})
    assert (await caller.decision(session_id)).json["verification"] is None

    await caller.submit(session_id)
    caller.sandbox.advance(0)

    assert status == (await caller.decision(session_id)).json["verification"]["status"]


async def test_other_first_names_stay_undecided(caller: Caller) -> None:
    """With another first name the session waits for `decide`."""
    session_id = await caller.create(person={"firstName": "April"})
    await caller.submit(session_id)
    caller.sandbox.advance(DAY)

    assert (await caller.decision(session_id)).json["verification"] is None


async def test_decide_after_approves_after_the_delay(start_sandbox: StartSandbox) -> None:
    """`decide_after` approves a submitted session after exactly that time."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        caller.sandbox.advance(60)
        await caller.submit(session_id)
        caller.sandbox.advance(29)
        assert (await caller.decision(session_id)).json["verification"] is None

        caller.sandbox.advance(1)

        assert "approved" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_decide_prevents_the_automatic_decision(start_sandbox: StartSandbox) -> None:
    """A decision by call is not replaced by the automatic one."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)
        caller.sandbox.decide(session_id, "declined")
        caller.sandbox.advance(60)

        assert "declined" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_resubmission_opens_a_new_attempt(caller: Caller) -> None:
    """After it the session accepts uploads and one submission again, with another attempt id."""
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


async def test_tenth_resubmission_is_declined(caller: Caller) -> None:
    """Nine resubmissions are allowed; the tenth is declined with code 539."""
    session_id = await caller.create(person={"firstName": "Resubmit"})
    statuses = []
    for _ in range(10):
        await caller.submit(session_id)
        caller.sandbox.advance(0)
        verification = (await caller.decision(session_id)).json["verification"]
        statuses.append((verification["status"], verification["reasonCode"]))

    assert [("resubmission_requested", 203)] * 9 + [("declined", 539)] == statuses


async def test_decision_time_is_the_due_time(start_sandbox: StartSandbox) -> None:
    """However far the clock is advanced, each decision has the time at which it was due."""
    async with start_sandbox(clock=VirtualClock(), decide_after=30) as caller:
        session_id = await caller.create()
        await caller.submit(session_id)

        caller.sandbox.advance(DAY)

        verification = (await caller.decision(session_id)).json["verification"]
        assert "2025-01-01T00:00:30.000000Z" == verification["decisionTime"]


async def test_approved_session_accepts_no_upload_and_no_submission(caller: Caller) -> None:
    """An approved session refuses uploads and submissions."""
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
async def test_undecided_session_ends_after_seven_days(  # noqa: PLR0913, PLR0917
    start_sandbox: StartSandbox, uploads: int, submits: int, abandoned_code: Literal[9104, 9121], status: str, code: int
) -> None:
    """An unused session expires and a started one is abandoned, both without a decision time."""
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


async def test_decided_session_does_not_expire(caller: Caller) -> None:
    """An approval is unchanged seven days later."""
    session_id = await caller.create()
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    caller.sandbox.advance(8 * DAY)

    assert "approved" == (await caller.decision(session_id)).json["verification"]["status"]


async def test_responses_are_compact_json(caller: Caller) -> None:
    """Responses have no spaces between tokens and no escapes for non-ASCII text, like real ones."""
    session_id = await caller.create(vendorData="José ✓")
    await caller.submit(session_id)
    caller.sandbox.decide(session_id, "approved")

    body = (await caller.decision(session_id)).body

    assert "José ✓" in body.decode()
    assert not re.search(rb"[,:]\s", body.replace("José ✓".encode(), b""))
