"""Details that Veriff documents or that were seen, as of November 2026."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from veriff_async import (
    Address,
    BadRequestError,
    EndUserIdWarning,
    InvalidArgumentError,
    Media,
    NotFoundError,
    Person,
    VeriffClient,
    from_json,
)
from veriff_async.models import REASONS, BiometricAuthentication, BiometricDetails, ParsedAddress, YesNo
from veriff_async.models.decision import Decision
from veriff_async.models.reasons import ReasonFamily
from veriff_async.models.verified import AdditionalVerifiedData
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.sandbox.conftest import Caller

pytestmark = pytest.mark.anyio

PICTURE: Final = b"\xff\xd8\xff\xe0 picture"
PERSON: Final = Person(full_name="Ada Specimen", id_number="1")


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Sandbox, VeriffClient]]:
    """Return a sandbox with a virtual clock, and a client of it."""
    async with Sandbox(clock=VirtualClock()) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        yield sandbox, veriff


@pytest.mark.parametrize("state", ["submitted", "review"])
async def test_deletion_of_submitted_session_is_refused(pair: tuple[Sandbox, VeriffClient], state: str) -> None:
    """A session that is submitted or in review cannot be deleted (code 1305)."""
    sandbox, veriff = pair
    session = await veriff.create_session()
    await session.submit()
    if state == "review":
        sandbox.decide(session.id, "review")

    with pytest.raises(BadRequestError) as caught:
        await session.delete()

    assert caught.value.code == "1305"


@pytest.mark.parametrize(
    "state", ["created", "started", "approved", "declined", "resubmission_requested", "expired", "abandoned"]
)
async def test_deletion_works_in_every_documented_state(pair: tuple[Sandbox, VeriffClient], state: str) -> None:
    """A session in any of the seven documented states can be deleted, and is not found afterwards."""
    sandbox, veriff = pair
    session = await veriff.create_session()
    if state == "started":
        sandbox.start_attempt(session.id)
    elif state != "created":
        sandbox.decide(session.id, state)

    await session.delete()

    with pytest.raises(NotFoundError):
        await session.decision()


async def test_second_submission_has_the_documented_message(pair: tuple[Sandbox, VeriffClient]) -> None:
    """The message of code 1304 names the status, as documented."""
    _, veriff = pair
    session = await veriff.create_session()
    await session.submit()

    with pytest.raises(BadRequestError) as caught:
        await session.submit()

    assert caught.value.reason == 'Cannot transition to "submitted" status.'


async def test_every_known_reason_code_has_a_description(pair: tuple[Sandbox, VeriffClient]) -> None:
    """A decision with a known reason code has its description; none is null."""
    sandbox, veriff = pair
    for code, known in REASONS.items():
        is_decline = known.family in {ReasonFamily.DECLINE, ReasonFamily.GRANULAR_DECLINE}
        session = await veriff.create_session()

        sandbox.decide(session.id, "declined" if is_decline else "resubmission_requested", reason_code=code)

        decision = await session.decision()
        assert decision is not None
        assert decision.reason, code
        assert (code, known.description or decision.reason) == (code, decision.reason)


async def test_passed_reason_replaces_the_description(pair: tuple[Sandbox, VeriffClient]) -> None:
    """A reason passed to `decide` is sent unchanged, with a known and with an unknown code."""
    sandbox, veriff = pair
    for code in (106, 99_999):
        session = await veriff.create_session()
        sandbox.decide(session.id, "declined", reason="my words", reason_code=code)
        decision = await session.decision()
        assert decision is not None
        assert (decision.reason, decision.reason_code) == ("my words", code)


def test_descriptions_are_veriffs() -> None:
    """Descriptions are Veriff's, and repeated declines give no advice to try again."""
    assert {code: REASONS[code].description for code in (106, 108, 109, 110, 111, 539)} == {
        106: "Known fraud",
        108: "Velocity/abuse duplicated end-user",
        109: "Velocity/abuse duplicated device",
        110: "Velocity/abuse duplicated ID",
        111: "Session fraudulently accessed",
        539: "Resubmission limit exceeded",
    }
    for code in (107, 108, 109, 110, 111):
        assert "again a little later" not in REASONS[code].hint
        assert "contact support" in REASONS[code].hint


async def test_tenth_resubmission_has_the_documented_reason(pair: tuple[Sandbox, VeriffClient]) -> None:
    """The decline with code 539 says that the limit was exceeded, for any reason that the test passed."""
    sandbox, veriff = pair
    session = await veriff.create_session()
    for _ in range(10):
        sandbox.decide(session.id, "resubmission_requested", reason="again")
        if not (await session.decision() or pytest.fail("undecided")).is_final:
            await session.submit()

    decision = await session.decision()
    assert decision is not None
    assert (decision.status, decision.reason_code, decision.reason) == ("declined", 539, "Resubmission limit exceeded")


async def test_decision_has_the_submission_time(pair: tuple[Sandbox, VeriffClient]) -> None:
    """The submission time is that of the decided attempt, and absent without a submission."""
    sandbox, veriff = pair
    session = await veriff.create_session()
    undecided = await veriff.create_session()
    sandbox.advance(60)
    await session.submit()
    sandbox.advance(60)
    sandbox.decide(session.id, "approved")
    sandbox.decide(undecided.id, "declined")

    decision = await session.decision()
    assert decision is not None
    assert decision.acceptance_time is not None
    assert decision.submission_time is not None
    assert (decision.submission_time - decision.acceptance_time).total_seconds() == 60
    assert (await undecided.decision() or pytest.fail("undecided")).submission_time is None


async def test_end_user_id_that_is_not_a_uuid_is_echoed_with_a_warning(pair: tuple[Sandbox, VeriffClient]) -> None:
    """The id is sent and echoed unchanged, and each call warns without showing it."""
    sandbox, veriff = pair
    with pytest.warns(EndUserIdWarning) as caught:
        session = await veriff.create_session(end_user_id="Customer-42")
    sandbox.decide(session.id, "approved")

    assert "Customer-42" not in str(caught[0].message)
    assert caught[0].filename == __file__
    assert (await session.decision() or pytest.fail("undecided")).end_user_id == "Customer-42"


async def test_option_refuses_end_user_id_that_is_not_a_uuid() -> None:
    """With `end_user_id_must_be_uuid`, such an id is refused with code 1104."""
    options = SandboxOptions(end_user_id_must_be_uuid=True)
    async with Sandbox(options=options) as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        with pytest.warns(EndUserIdWarning), pytest.raises(BadRequestError) as caught:
            await veriff.create_session(end_user_id="Customer-42")

    assert caught.value.code == "1104"


@pytest.mark.parametrize(
    ("kind", "name"), [("decisions", "decision"), ("FULLAUTO", "fullauto"), ("ine_curp", "ine-curp")]
)
def test_misspelt_kind_of_webhook_suggests_the_right_one(kind: str, name: str) -> None:
    """A URL for an unknown kind of webhook is refused, with a suggestion."""
    with pytest.raises(InvalidArgumentError, match=f"did you mean '{name}'"):
        Sandbox(webhook_urls={kind: "http://127.0.0.1:1"})


async def test_empty_callback_counts_as_absent(pair: tuple[Sandbox, VeriffClient]) -> None:
    """The sandbox and the client accept an empty callback."""
    _, veriff = pair

    assert (await veriff.create_session(callback="")).id


INCOMPLETE: Final = (
    Address(),
    Address(parsed_address=ParsedAddress(street="Main Street", house_number="1")),
    Address(parsed_address=ParsedAddress(city="Springfield", country="US", postcode="12345")),
)
COMPLETE: Final = (
    Address(full_address="1 Main Street, Springfield"),
    Address(parsed_address=ParsedAddress(street="Main Street", house_number="1", postcode="12345")),
)


@pytest.mark.parametrize("address", INCOMPLETE, ids=str)
async def test_registry_check_needs_a_complete_address(pair: tuple[Sandbox, VeriffClient], address: Address) -> None:
    """Without a date of birth, an address in neither documented form is refused before a request is sent."""
    sandbox, veriff = pair

    with pytest.raises(InvalidArgumentError, match="full_address"):
        await veriff.validate_registry(PERSON, address=address)

    assert not sandbox.requests


@pytest.mark.parametrize("address", COMPLETE, ids=["whole", "in parts"])
async def test_registry_check_accepts_both_forms_of_an_address(
    pair: tuple[Sandbox, VeriffClient], address: Address
) -> None:
    """A full address, or street, house number and postcode, is enough."""
    _, veriff = pair

    assert (await veriff.validate_registry(PERSON, address=address)).id


async def test_older_media_path_returns_the_same_file(caller: Caller) -> None:
    """The path that other clients use returns the same signed bytes."""
    session_id = await caller.create()
    async with VeriffClient.from_env(caller.sandbox.environ) as veriff:
        uploaded = await veriff.session(session_id).upload(Media(PICTURE, "face"))
    media_id = uploaded[0].id

    reply = await caller.send("GET", f"/v1/address-media/{media_id}", headers=caller.signed(media_id.encode()))

    assert (200, PICTURE) == (reply.status, reply.body)
    assert caller.signature(PICTURE).hexdigest() == reply.headers["x-hmac-signature"]


async def test_details_of_biometric_authentication_are_typed() -> None:
    """The single checks are enums, and the rest stays in the raw JSON."""
    details = {"faceLiveness": "Yes", "mediaNotInjected": "Yes", "behavioralRisk": "No", "newer": 1}
    found = from_json(
        Decision,
        {
            "verification": {
                "id": "1",
                "status": "approved",
                "biometricAuthentication": {"details": details},
                "additionalVerifiedData": {"selfieQuality": "Yes"},
            }
        },
    )

    assert found.biometric_authentication == BiometricAuthentication(
        details=BiometricDetails(
            face_liveness=YesNo.YES, media_not_injected=YesNo.YES, behavioral_risk=YesNo.NO, raw=details
        )
    )
    assert found.additional_verified_data == AdditionalVerifiedData(selfie_quality=YesNo.YES)
    assert found.biometric_authentication.details.raw["newer"] == 1
