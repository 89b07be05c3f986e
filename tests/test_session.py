"""Every call of the API about a session, from the client to the sandbox and back over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async import (
    BadRequestError,
    CollectedData,
    ConflictError,
    Device,
    InvalidArgumentError,
    Media,
    Network,
    NfcData,
    NotFoundError,
    PermissionDeniedError,
    Person,
    RateLimitedError,
    Status,
    VeriffClient,
)
from veriff_async.config import RetryPolicy
from veriff_async.models import (
    CheckType,
    CurpResult,
    CurpStatus,
    IneCurpResult,
    IneRecord,
    IneResult,
    MatchStatus,
    MonitorStatus,
    PepEntity,
    PepHit,
    PepSanctionMatch,
    TransportationResult,
    UserDefinedStatus,
    WatchlistHit,
    WatchlistScreening,
)
from veriff_async.models.collected import Browser
from veriff_async.models.person import Address
from veriff_async.models.session import Consent
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from veriff_async import VerificationSession

pytestmark = pytest.mark.anyio

CHIP = NfcData(com=b"com", sod=b"sod", dg1=b"dg1", dg2=b"portrait" * 5_000)
DEVICE = Device(fingerprint="f1")
HOME = Network(address_v4="192.0.2.1")
COLLECTED = CollectedData(provider_name="us", device=DEVICE, network=HOME, email="ada@example.com")
PICTURE = Media(b"\xff\xd8\xff\xe0" + bytes(60), "face")
DAY = 86_400


@pytest.fixture
async def session(veriff: VeriffClient) -> VerificationSession:
    """Open a session."""
    person = Person(first_name="Ada", last_name="Byron", id_number="123456789")
    return await veriff.create_session(person=person, vendor_data="user-42")


@pytest.fixture
async def strict() -> AsyncIterator[tuple[Sandbox, VeriffClient]]:
    """Run a sandbox with a virtual clock, and a client without retries."""
    async with (
        Sandbox(clock=VirtualClock()) as sandbox,
        VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=RetryPolicy(max_attempts=1)) as veriff,
    ):
        yield sandbox, veriff


async def test_session_options_are_sent_in_veriffs_names(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """Address, consents and types of proof of address are sent under Veriff's names."""
    session = await veriff.create_session(
        address=Address(full_address="1 High Street"),
        consents=[Consent("ine", approved=True)],
        proof_of_address_types=["UTILITY_BILL"],
    )

    assert session.status == Status.CREATED
    assert sandbox.session(session.id).status == Status.CREATED


async def test_nfc_data_is_uploaded_as_one_file(sandbox: Sandbox, session: VerificationSession) -> None:
    """The data of a chip is one file of the session, accepted until the session is submitted."""
    receipt = await session.upload_nfc(CHIP)

    assert (receipt.mimetype, receipt.session_id) == ("application/json", session.id)
    (stored,) = sandbox.session(session.id).media
    assert (receipt.id, receipt.size) == (stored.id, stored.size)
    await session.submit()
    with pytest.raises(ConflictError):
        await session.upload_nfc(CHIP)


async def test_nfc_data_without_a_file_is_refused(session: VerificationSession) -> None:
    """Chip data that lack a file are refused before the first request."""
    with pytest.raises(InvalidArgumentError, match="dg2"):
        await session.upload_nfc(NfcData(com=b"1", sod=b"2", dg1=b"3", dg2=b""))


async def test_device_and_network_data_are_accepted(sandbox: Sandbox, session: VerificationSession) -> None:
    """Device and network data are accepted for the open attempt, without absent members, and refused afterwards."""
    receipt = await session.send_collected_data(COLLECTED)

    view = sandbox.session(session.id)
    assert (session.id, view.attempts[-1].id) == (receipt.session_id, receipt.attempt_id)
    assert view.collected_data == {
        "providerName": "us",
        "device": {"fingerprint": "f1"},
        "network": {"ip": {"addressV4": "192.0.2.1"}},
        "person": {"email": "ada@example.com"},
    }
    await session.submit()
    with pytest.raises(BadRequestError):
        await session.send_collected_data(COLLECTED)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (CollectedData(provider_name="", device=DEVICE, network=HOME), "provider_name"),
        (CollectedData(provider_name="us", device=Device(fingerprint="f" * 256), network=HOME), "fingerprint"),
        (CollectedData(provider_name="us", device=DEVICE, network=Network(ssid="home")), "network"),
        (CollectedData(provider_name="us", device=DEVICE, network=HOME, phone_number="call me"), "phone_number"),
        (
            CollectedData(provider_name="us", device=DEVICE, network=HOME, browser=Browser(user_agent="a" * 256)),
            "browser.user_agent",
        ),
        (
            CollectedData(provider_name="us", device=DEVICE, network=HOME, browser=Browser(timezone_offset=1441)),
            "browser.timezone_offset",
        ),
    ],
)
async def test_invalid_collected_data_is_refused(session: VerificationSession, data: CollectedData, name: str) -> None:
    """The error names the field, and nothing is sent."""
    with pytest.raises(InvalidArgumentError, match=name):
        await session.send_collected_data(data)


async def test_attempts_are_listed_newest_first(sandbox: Sandbox, session: VerificationSession) -> None:
    """A resubmission opens a second attempt; a user-defined status belongs to the attempt for which it was set."""
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")
    sandbox.set_user_status(session.id, UserDefinedStatus(status="Look again", status_code="look-again", reason="odd"))

    newest, oldest = await session.attempts()

    assert (newest.status, oldest.status) == (Status.CREATED, Status.RESUBMISSION_REQUESTED)
    assert ["look-again"] == [given.status_code for given in newest.user_defined_data]
    assert oldest.user_defined_data == ()
    assert newest.created_time is not None


async def test_media_of_each_attempt_are_returned(
    sandbox: Sandbox, veriff: VeriffClient, session: VerificationSession
) -> None:
    """The media of the newest attempt that has any are returned, and those of every attempt by its id."""
    receipts = await session.upload(PICTURE, Media(bytes.fromhex("ffd8ffe1") + bytes(60), "document-front"))
    chip = await session.upload_nfc(CHIP)
    await session.submit()
    sandbox.decide(session.id, "resubmission_requested")

    found = await session.media()

    assert {receipt.id for receipt in receipts} == {file.id for file in found.images}
    assert [chip.id] == [file.id for file in found.nfc_documents]
    assert len(found.all) == 3
    newest, oldest = await session.attempts()
    assert (await veriff.attempt_media(newest.id)).all == ()
    assert (await veriff.attempt_media(oldest.id)).images == found.images
    with pytest.raises(NotFoundError):
        await veriff.attempt_media(session.id)


async def test_person_has_latest_data_and_matches(sandbox: Sandbox, session: VerificationSession) -> None:
    """Before the decision the person is that of the creation; afterwards it has the read data and the matches."""
    before = await session.person()
    await session.submit()
    sandbox.decide(session.id, "approved", person=Person(first_name="Augusta", date_of_birth="1990-01-01"))
    sandbox.set_pep_matches(
        session.id, PepSanctionMatch(provider="lists", hits=(PepHit(doc=PepEntity(name="A. B."), score=1.5),))
    )
    after = await session.person()

    assert (before.first_name, before.id_code, before.pep_sanction_matches) == ("Ada", "123456789", ())
    assert (after.first_name, after.last_name, after.date_of_birth) == ("Augusta", "Byron", "1990-01-01")
    (search,) = after.pep_sanction_matches
    assert search.hits[0].doc == PepEntity(name="A. B.")


async def test_screening_is_returned_and_monitoring_stopped(sandbox: Sandbox, session: VerificationSession) -> None:
    """The result of a screening is returned once it exists; its monitoring can be stopped once."""
    with pytest.raises(NotFoundError):
        await session.watchlist_screening()
    hit = WatchlistHit(matched_name="Ada Byron", match_types=("name_exact",))
    sandbox.complete_watchlist_screening(
        session.id,
        WatchlistScreening(
            match_status=MatchStatus.POSSIBLE_MATCH,
            check_type=CheckType.INITIAL_RESULT,
            monitor_status=MonitorStatus.ENABLED,
            hits=(hit,),
        ),
    )

    found = await session.watchlist_screening()

    assert (found.may_be_listed, found.total_hits, found.hits) == (True, 1, (hit,))
    assert (found.session_id, found.vendor_data, found.search_term.name) == (session.id, "user-42", "Ada Byron")
    stopped = await session.stop_monitoring()
    assert (stopped.monitor_status, stopped.session_id) == (MonitorStatus.DISABLED, session.id)
    assert (await session.watchlist_screening()).monitor_status == MonitorStatus.DISABLED
    with pytest.raises(BadRequestError):
        await session.stop_monitoring()


async def test_registry_results_are_returned(sandbox: Sandbox, session: VerificationSession) -> None:
    """The result of each registry is available once it has answered."""
    with pytest.raises(NotFoundError):
        await session.ine_registry()
    answers = (
        IneResult(active=True, document_state="vigente"),
        CurpResult(status_curp=CurpStatus.RCN, curp="BXAA900101HDFRRS09"),
        IneCurpResult(ine=IneRecord(active=True, ine_identifier="123"), curp=CurpResult(status_curp=CurpStatus.BD)),
        TransportationResult(status="valid"),
    )
    for answer in answers:
        sandbox.complete_registry_check(session.id, answer)

    assert answers == (
        await session.ine_registry(),
        await session.curp_registry(),
        await session.ine_curp_registry(),
        await session.transportation_registry(),
    )
    assert answers[1].status_curp is not None
    assert answers[1].status_curp.is_active


async def test_pictures_have_timestamps(sandbox: Sandbox, session: VerificationSession) -> None:
    """The digest of a timestamp is that of the uploaded picture."""
    (receipt,) = await session.upload(PICTURE)

    (found,) = await session.timestamps()

    assert found.data_hash is not None
    assert (receipt.id, sandbox.session(session.id).media[0].sha256) == (found.id, found.data_hash.value)


async def test_full_auto_decision_exists_only_for_full_auto_integrations(strict: tuple[Sandbox, VeriffClient]) -> None:
    """Sessions of the Essential plan have only this decision; other sessions never have it."""
    _, ordinary = strict
    unknown = await ordinary.create_session()
    async with (
        Sandbox(options=SandboxOptions(full_auto=True)) as sandbox,
        VeriffClient.from_env(sandbox.environ) as veriff,
    ):
        session = await veriff.create_session(person=Person(first_name="Ada"))
        assert await session.full_auto_decision() is None
        await session.submit()
        sandbox.decide(session.id, "approved")

        found = await session.full_auto_decision()

        assert found is not None
        assert (found.is_approved, found.is_final, found.person.first_name.value) == (True, True, "Ada")
        assert await session.decision() is None
    assert await unknown.full_auto_decision() is None


async def test_deleted_session_is_not_found(strict: tuple[Sandbox, VeriffClient]) -> None:
    """A session can be deleted unless its decision is pending, and every call on it then raises `NotFoundError`."""
    sandbox, veriff = strict
    session = await veriff.create_session()
    await session.submit()
    with pytest.raises(BadRequestError) as caught:
        await session.delete()
    assert caught.value.code == "1305"
    sandbox.decide(session.id, "declined")

    await session.delete()

    assert sandbox.session(session.id).deleted
    for call in (session.decision, session.attempts, session.delete):
        with pytest.raises(NotFoundError):
            await call()


async def test_deletions_are_limited_per_hour_and_day(strict: tuple[Sandbox, VeriffClient]) -> None:
    """Five sessions can be deleted in an hour and ten in a day."""
    sandbox, veriff = strict

    async def delete(count: int) -> None:
        for _ in range(count):
            await (await veriff.create_session()).delete()

    await delete(5)
    with pytest.raises(RateLimitedError):
        await delete(1)
    sandbox.advance(3_601)
    await delete(5)
    sandbox.advance(3_601)
    with pytest.raises(RateLimitedError):
        await delete(1)
    sandbox.advance(DAY)
    await delete(1)


async def test_used_up_quota_fails_immediately(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The sixth deletion of an hour is not retried, and no other call waits for it."""
    for _ in range(5):
        await (await veriff.create_session()).delete()
    session = await veriff.create_session()
    asked = len(sandbox.requests)

    with pytest.raises(RateLimitedError):
        await session.delete()
    assert await session.decision() is None

    assert len(sandbox.requests) == asked + 2


async def test_deletion_that_is_not_enabled_is_refused(strict: tuple[Sandbox, VeriffClient]) -> None:
    """Deletion raises `PermissionDeniedError` if Veriff has not enabled it for the integration."""
    async with (
        Sandbox(options=SandboxOptions(allow_deletion=False)) as sandbox,
        VeriffClient.from_env(sandbox.environ) as veriff,
    ):
        session = await veriff.create_session()
        with pytest.raises(PermissionDeniedError):
            await session.delete()
