"""The calls that are about no session object: registries, older addresses, frauds; on hosts of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from veriff_async import (
    Address,
    AuthenticationError,
    Credentials,
    FraudReport,
    InvalidArgumentError,
    Media,
    NotFoundError,
    Person,
    RateLimitedError,
    Status,
    VeriffClient,
)
from veriff_async.config import RetryPolicy
from veriff_async.models import FraudCategory, LookupStatus, ParsedAddress, ReportStatus
from veriff_async.sandbox import Sandbox, SandboxOptions, VirtualClock

if TYPE_CHECKING:
    from veriff_async.sandbox import ReceivedRequest

pytestmark = pytest.mark.anyio

PICTURE = b"\xff\xd8\xff\xe0" + bytes(60)
PERSON = Person(first_name="Ada", last_name="Byron", id_number="123456789", date_of_birth="1990-01-01")


async def create_approved_session(sandbox: Sandbox, veriff: VeriffClient) -> str:
    """Create a session, approve it, and return its id."""
    session = await veriff.create_session()
    await session.submit()
    sandbox.decide(session.id, "approved")
    return session.id


async def test_registry_check_is_a_submitted_session(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """A registry check is a submitted session, whose decision is awaited as usual."""
    session = await veriff.validate_registry(PERSON, vendor_data="user-42")
    sandbox.decide(session.id, "approved")

    assert (session.status, session.vendor_data) == (Status.SUBMITTED, "user-42")
    assert (await session.wait_for_decision(timeout=20)).is_approved


async def test_registry_check_accepts_an_address_instead_of_a_date_of_birth(
    sandbox: Sandbox, veriff: VeriffClient
) -> None:
    """Registries find a person by number and name, with a date of birth or an address."""
    person = Person(full_name="Ada Byron", id_number="123456789")
    address = Address(parsed_address=ParsedAddress(street="High Street", house_number="1", postcode="12345"))

    assert (await veriff.validate_registry(person, address=address)).id in {view.id for view in sandbox.sessions}


@pytest.mark.parametrize(
    ("person", "name"),
    [
        (Person(first_name="Ada", last_name="Byron", date_of_birth="1990-01-01"), "id_number"),
        (Person(first_name="Ada", id_number="1", date_of_birth="1990-01-01"), "full_name"),
        (Person(full_name="Ada Byron", id_number="1"), "date_of_birth"),
    ],
)
async def test_missing_registry_values_are_refused(veriff: VeriffClient, person: Person, name: str) -> None:
    """A person whom no registry can find is refused before anything is sent, on either host."""
    for call in (veriff.validate_registry, veriff.validate_registry_sync):
        with pytest.raises(InvalidArgumentError, match=name):
            await call(person)


async def test_synchronous_registry_check_returns_the_decision(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """The response of the synchronous host has the decision and the results of the registries."""
    decision = await veriff.validate_registry_sync(PERSON)

    (result,) = decision.additional_verified_data.validation_results
    assert (decision.is_approved, result.first_name) == (True, "match")
    assert sandbox.requests[-1].path == "/sync/v1/validate-registry"


async def test_feedback_and_sync_urls_can_be_set(sandbox: Sandbox) -> None:
    """Feedback and synchronous checks use the hosts in the arguments or in the environment."""
    async with Sandbox(credentials=sandbox.credentials) as other:
        environ = {
            **sandbox.environ,
            "VERIFF_FEEDBACK_URL": other.feedback_url,
            "VERIFF_SYNC_URL": other.sync_url,
        }
        async with VeriffClient.from_env(environ) as veriff:
            await veriff.fraud_categories()
            await veriff.validate_registry_sync(PERSON)
            await veriff.validate_registry(PERSON)

        assert [seen.path for seen in other.requests] == ["/v1/feedback/fraud-categories", "/sync/v1/validate-registry"]
        assert [seen.path for seen in sandbox.requests] == ["/v1/validate-registry"]


async def test_older_proof_of_address_is_returned(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """An older proof of address is returned by the id of its event."""
    session = await veriff.create_session()
    await session.upload(Media(PICTURE, "address-front"))
    address_id = sandbox.submit_address(session.id)

    before = await veriff.address(address_id)
    sandbox.decide(session.id, "approved")
    after = await veriff.address(address_id)

    assert before is None
    assert after is not None
    assert after.session_id == session.id
    assert ["address-front"] == [file.context for file in (await veriff.address_media(address_id)).images]
    with pytest.raises(NotFoundError):
        await veriff.address(session.id)


async def test_fraud_categories_are_returned(veriff: VeriffClient) -> None:
    """Every category that this version names is one of the API's, with an explanation."""
    found = await veriff.fraud_categories()

    assert set(FraudCategory) == {info.category for info in found}
    assert all(info.description for info in found)


async def test_each_fraud_report_is_accepted_or_refused(sandbox: Sandbox, veriff: VeriffClient) -> None:
    """One report of a call may be accepted and another refused; a report can be looked up, and is accepted once."""
    known = await create_approved_session(sandbox, veriff)
    undecided = (await veriff.create_session()).id
    report = FraudReport(known, [FraudCategory.INJECTED_MEDIA, "selfie_is_manipulated"], comment="seen later")

    taken, refused, odd = await veriff.report_fraud(
        report, FraudReport(undecided, "injected_media"), FraudReport(known, "a_kind_that_is_newer")
    )
    (again,) = await veriff.report_fraud(report)
    found, missing = await veriff.fraud_reports([known, undecided])

    assert (taken.is_reported, refused.is_reported, odd.is_reported) == (True, False, False)
    assert (again.status, again.details) == (ReportStatus.ERROR, "Report already exists")
    assert (found.status, missing.status) == (LookupStatus.FOUND, LookupStatus.NOT_FOUND)
    assert found.details is not None
    assert (found.details.report_id, found.details.customer_comment) == (taken.report_id, "seen later")
    assert found.details.fraud_type_reported == report.categories


@pytest.mark.parametrize(
    ("reports", "name"),
    [
        ([], "one or more"),
        ([FraudReport("8f0d1ab6-0000-4000-8000-000000000001", [])], "categories"),
        ([FraudReport("8f0d1ab6-0000-4000-8000-000000000001", ["injected_media"] * 2)], "categories"),
        ([FraudReport("8f0d1ab6-0000-4000-8000-000000000001", "injected_media", comment="x" * 501)], "501"),
        ([FraudReport("a/b", "injected_media")], "session_id"),
    ],
)
async def test_invalid_fraud_report_is_refused(veriff: VeriffClient, reports: list[FraudReport], name: str) -> None:
    """The error names the field, and nothing is sent."""
    with pytest.raises(InvalidArgumentError, match=name):
        await veriff.report_fraud(*reports)


@pytest.mark.parametrize("session_ids", [[], ["8f0d1ab6-0000-4000-8000-000000000001"] * 11, "one text"])
async def test_fraud_reports_takes_one_to_ten_sessions(veriff: VeriffClient, session_ids: list[str]) -> None:
    """Another number of ids is refused before the first request."""
    with pytest.raises(InvalidArgumentError, match="session_ids"):
        await veriff.fraud_reports(session_ids)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a loop in debug mode takes twice as long for so many
async def test_feedback_allows_1000_requests_a_minute() -> None:
    """The next request is refused with the API's own error code."""
    seen: list[ReceivedRequest] = []
    once = RetryPolicy(max_attempts=1)
    async with (
        Sandbox(clock=VirtualClock(), on_request=seen.append) as sandbox,
        VeriffClient(sandbox.credentials, base_url=sandbox.base_url, retry=once) as veriff,
    ):
        for _ in range(1000):
            await veriff.fraud_categories()
        with pytest.raises(RateLimitedError) as caught:
            await veriff.fraud_categories()
        sandbox.advance(61)
        await veriff.fraud_categories()

    assert caught.value.code == "RATE_LIMIT_EXCEEDED"
    assert len(seen) == 1002


async def test_feedback_can_sign_the_older_text() -> None:
    """Older pages of Veriff sign only the path: a sandbox that does so refuses signatures of the newer form."""
    async with (
        Sandbox(options=SandboxOptions(feedback_signs_body=False)) as sandbox,
        VeriffClient.from_env(sandbox.environ) as veriff,
    ):
        assert await veriff.fraud_categories()
        with pytest.raises(AuthenticationError):
            await veriff.fraud_reports(["8f0d1ab6-0000-4000-8000-000000000001"])


async def test_feedback_refuses_another_key(sandbox: Sandbox) -> None:
    """The feedback API has its own header for the key and its own form of an error."""
    other = Credentials("5b0d1ab6-0000-4000-8000-000000000001", sandbox.credentials.shared_secret)
    async with VeriffClient(other, base_url=sandbox.base_url) as veriff:
        with pytest.raises(AuthenticationError) as caught:
            await veriff.fraud_categories()

    assert caught.value.code == "1803"
