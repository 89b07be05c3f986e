"""One receiver for several integrations: which one gets a request, and that none sees anything of another."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import given, strategies as st

from tests.webhooks.conftest import PATH, message, under_aiohttp, under_uvicorn
from veriff_async import (
    ConfigurationError,
    Credentials,
    DeliveryPolicy,
    InboxError,
    InvalidArgumentError,
    SessionEvent,
    SignatureError,
    WebhookReceiver,
)
from veriff_async._protocol.integration_routes import check_separation
from veriff_async.inbox import MemoryInbox
from veriff_async.testing import signed_webhooks
from veriff_async.webhooks import IntegrationReceiver, aiohttp_app, aiohttp_handler, asgi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from veriff_async import Delivery, WebhookEvent
    from veriff_async.statistics import ReceiverStatistics

SHOP: Final = Credentials(
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "secret of the shop", previous_secrets=("an old one",)
)
BANK: Final = Credentials("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "secret of the bank")
# One API key for two integrations.
NORTH: Final = Credentials("9b2d1c0e-0c4f-4a70-8f6e-1f1a4b3c2d1e", "the secret of the north", integration_id="north-id")
SOUTH: Final = Credentials("9b2d1c0e-0c4f-4a70-8f6e-1f1a4b3c2d1e", "the secret of the south", integration_id="south-id")
ALL: Final = {"shop": SHOP, "bank": BANK, "north": NORTH, "south": SOUTH}


def sign(body: bytes, credentials: Credentials, **others: str | None) -> dict[str, str]:
    """Return the headers of a webhook as Veriff sends them, with others of them, or without those that are ``None``."""
    headers: dict[str, str | None] = {
        "content-type": "application/json",
        "x-auth-client": credentials.api_key,
        "x-hmac-signature": hmac.new(credentials.shared_secret.encode(), body, hashlib.sha256).hexdigest(),
        "vrf-integration-id": credentials.integration_id,
    }
    headers.update({name.replace("_", "-"): value for name, value in others.items()})
    return {name: value for name, value in headers.items() if value is not None}


def make_receivers(names: tuple[str, ...] = tuple(ALL), **options: Any) -> dict[str, WebhookReceiver]:  # noqa: ANN401
    """Make a receiver with an inbox of its own for each integration."""
    return {name: WebhookReceiver(ALL[name], MemoryInbox(), **options) for name in names}


@pytest.fixture
async def receiver() -> AsyncIterator[IntegrationReceiver]:
    """Give an open receiver of four integrations."""
    async with IntegrationReceiver(make_receivers()) as receiver:
        yield receiver


async def stored(receiver: IntegrationReceiver, session_id: str | None) -> dict[str, int]:
    """Count the events of a session in each inbox, without the inboxes that have none."""
    counts = {name: len(await receiver[name].inbox.get_events(session_id)) for name in receiver}
    return {name: count for name, count in counts.items() if count}


def without_clock(statistics: ReceiverStatistics) -> dict[str, object]:
    """Return the counters that are not zero."""
    return {name: value for name, value in statistics.to_dict().items() if value and name[-3:] not in {"_at", "age"}}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ALL)
async def test_a_webhook_reaches_the_integration_with_its_key(receiver: IntegrationReceiver, name: str) -> None:
    """The API key selects the receiver, and the integration id where several integrations have one key."""
    body = message(session_id="s1")

    response = await receiver.handle("POST", sign(body, ALL[name]), body)

    assert 200 == response.status
    assert {name: 1} == await stored(receiver, "s1")
    statistics = receiver.statistics()
    assert 0 == statistics.unknown.refused
    assert {name: 1} == {other: each.recorded for other, each in statistics.integrations.items() if each.recorded}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x_auth_client": "0b0cf1a5-5b1c-4e0a-8f7a-6b9d2f3e4d5c"}, "foreign_client"),
        ({"x_auth_client": None}, "missing"),
        ({"x_auth_client": ""}, "foreign_client"),
        ({"vrf_auth_client": BANK.api_key}, "malformed"),
        ({"x_auth_client": NORTH.api_key}, "foreign_client"),
        ({"x_auth_client": NORTH.api_key, "vrf_integration_id": "west-id"}, "foreign_client"),
    ],
)
async def test_requests_of_no_integration_are_refused(
    receiver: IntegrationReceiver, headers: dict[str, str | None], reason: str
) -> None:
    """An unknown, missing or contradictory key is answered 401, and counted for none of the integrations."""
    body = message(session_id="s1")

    response = await receiver.handle("POST", sign(body, SHOP, **headers), body)

    assert 401 == response.status
    assert {} == await stored(receiver, "s1")
    statistics = receiver.statistics()
    assert {reason: 1} == statistics.unknown.refused_by_reason
    assert [0] * 4 == [each.refused for each in statistics.integrations.values()]


@pytest.mark.anyio
@pytest.mark.parametrize(("signer", "claimed"), [(SHOP, BANK), (BANK, SHOP), (NORTH, SOUTH), (SOUTH, NORTH)])
async def test_a_tenant_cannot_write_into_the_inbox_of_another(
    receiver: IntegrationReceiver, signer: Credentials, claimed: Credentials
) -> None:
    """A body that one tenant has signed is refused with the headers of another, also for a session of the other."""
    body = message(session_id="s1")
    headers = sign(body, signer, x_auth_client=claimed.api_key, vrf_integration_id=claimed.integration_id)

    response = await receiver.handle("POST", headers, body)

    assert 401 == response.status
    assert {} == await stored(receiver, "s1")


@pytest.mark.anyio
async def test_log_names_the_integration_of_a_refused_request(
    receiver: IntegrationReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The API key or the address has selected it; its name comes from the program, and nothing from the headers."""
    body = message(session_id="s1")
    wrong, foreign = (
        sign(body, SHOP, x_hmac_signature="0" * 64),
        {"x_auth_client": "canary", "vrf_integration_id": "canary"},
    )
    await receiver.handle("POST", wrong, body)
    await receiver.handle("POST", {**wrong, "content-type": "text/plain"}, body)
    await receiver.handle("POST", sign(body, SOUTH, x_hmac_signature=None), body)
    await receiver["bank"].handle("POST", sign(body, SHOP, **foreign), body)  # at an address of its own
    await receiver.handle("POST", sign(body, SHOP, **foreign), body)
    await receiver.handle("POST", sign(body, NORTH, vrf_integration_id="canary"), body)
    removed = await receiver.remove("shop")
    await receiver.handle("POST", wrong, body)
    await removed.handle("POST", wrong, body)

    names = [getattr(record, "veriff_integration", None) for record in caplog.records]
    assert ["shop", "shop", "south", "bank", None, None, None, None] == names
    assert not any("canary" in str(vars(record)) for record in caplog.records)


@pytest.mark.anyio
async def test_log_names_the_integration_whose_inbox_fails(
    receiver: IntegrationReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A response 503 is logged with the integration, too."""
    body = message(session_id="s1")
    await receiver["shop"].aclose()
    assert 503 == (await receiver.handle("POST", sign(body, SHOP), body)).status
    assert "shop" == getattr(caplog.records[-1], "veriff_integration", None)


@pytest.mark.anyio
async def test_tenants_have_states_of_their_own_for_one_session_id(receiver: IntegrationReceiver) -> None:
    """A webhook of a tenant that names a session of another changes nothing there, and wakes no wait there."""
    started, submitted = message("started", "s1"), message("submitted", "s1")
    await receiver.receive(sign(started, BANK), started)
    changes = receiver["bank"].inbox.subscribe()
    assert await anext(changes) is None

    await receiver.receive(sign(submitted, SHOP), submitted)
    later = message("started", "s2")
    await receiver.receive(sign(later, BANK), later)

    assert "s2" == await anext(changes)
    await changes.aclose()
    states = {name: await receiver[name].inbox.get_states(["s1"]) for name in ("shop", "bank")}
    assert {"shop": "submitted", "bank": "started"} == {name: str(each["s1"].status) for name, each in states.items()}


@pytest.mark.anyio
async def test_the_rules_of_http_hold_for_unknown_keys_too(receiver: IntegrationReceiver) -> None:
    """A request that is not a webhook gets the response that a receiver of one integration gives."""
    body = message()
    headers = sign(body, SHOP, x_auth_client="another")
    cases = {
        405: ("GET", headers, body),
        415: ("POST", {**headers, "content-type": "text/html"}, body),
        413: ("POST", {**headers, "content-length": "99999999"}, body),
        401: ("POST", headers, body),
    }
    assert list(cases) == [(await receiver.handle(*case)).status for case in cases.values()]


@pytest.mark.anyio
async def test_strangers_do_not_learn_which_keys_are_known() -> None:
    """With allowed networks, a request from another address gets the same response whether or not its key is known."""
    body = message(session_id="s1")
    async with IntegrationReceiver(make_receivers(), allowed_networks=["192.0.2.0/27"]) as receiver:
        known = await receiver.handle("POST", sign(body, SHOP), body, remote="198.51.100.9")
        unknown = await receiver.handle("POST", sign(body, SHOP, x_auth_client="no"), body, remote="198.51.100.9")
        allowed = await receiver.handle("POST", sign(body, SHOP), body, remote="192.0.2.7")

    assert (403, 403, 200) == (known.status, unknown.status, allowed.status)
    assert known == unknown
    assert {"not_allowed": 2} == receiver.statistics().unknown.refused_by_reason


@pytest.mark.anyio
async def test_receive_raises_for_unknown_keys(receiver: IntegrationReceiver) -> None:
    """Without HTTP an unknown key is the SignatureError of a receiver with another key."""
    body = message()
    with pytest.raises(SignatureError) as caught:
        await receiver.receive(sign(body, SHOP, x_auth_client="another"), body)
    assert "foreign_client" == caught.value.reason
    with pytest.raises(InvalidArgumentError):
        await receiver.receive(cast("Any", None), body)


@pytest.mark.anyio
async def test_integrations_can_be_added_and_removed_while_it_runs(receiver: IntegrationReceiver) -> None:
    """A removed integration is answered 401, and is received again after it was added again."""
    body = message(session_id="s1")
    headers = sign(body, SHOP)

    removed = await receiver.remove("shop")
    assert "shop" not in receiver
    assert 401 == (await receiver.handle("POST", headers, body)).status
    assert 503 == (await removed.handle("POST", headers, body)).status  # it is closed
    receiver.add("shop", removed)

    assert 200 == (await receiver.handle("POST", headers, body)).status
    assert ["bank", "north", "south", "shop"] == list(receiver)
    assert 4 == len(receiver)
    with pytest.raises(KeyError):
        await receiver.remove("another")


@pytest.mark.anyio
async def test_an_open_receiver_adds_integrations_on_an_event_loop_only(receiver: IntegrationReceiver) -> None:
    """In another thread the new receiver could not be opened, so nothing is added."""
    new = WebhookReceiver(Credentials("another key", "another secret"), MemoryInbox())
    with pytest.raises(ConfigurationError, match="asyncio"):
        await asyncio.to_thread(receiver.add, "new", new)
    assert "new" not in receiver
    receiver.add("new", new)
    assert "new" in receiver


@pytest.mark.anyio
async def test_secrets_and_keys_can_be_rotated_while_it_runs(receiver: IntegrationReceiver) -> None:
    """New credentials hold from the next request on: with the old secret until it is deleted, and with another key."""
    body = message(session_id="s1")
    rotated = SHOP.with_rotated_secret("a third one")
    receiver.set_credentials("shop", rotated)
    assert [200, 200] == [(await receiver.handle("POST", sign(body, each), body)).status for each in (SHOP, rotated)]

    moved = Credentials("e4eaaaf2-d142-11e1-b3e4-080027620cdd", "a fourth one")
    receiver.set_credentials("shop", moved)
    assert [401, 200] == [(await receiver.handle("POST", sign(body, each), body)).status for each in (rotated, moved)]

    # The credentials of a single receiver may be set as well.
    receiver["shop"].credentials = SHOP
    assert [401, 200] == [(await receiver.handle("POST", sign(body, each), body)).status for each in (moved, SHOP)]


@pytest.mark.anyio
async def test_two_receivers_that_were_given_one_key_receive_nothing(receiver: IntegrationReceiver) -> None:
    """If a mistake makes the key of two integrations equal, neither gets a webhook that may be the other's."""
    receiver["shop"].credentials = Credentials(BANK.api_key, "another secret")
    body = message(session_id="s1")
    await receiver.handle("POST", sign(body, SHOP), body)  # the old key is unknown now, so the routes are made again

    assert 401 == (await receiver.handle("POST", sign(body, BANK), body)).status
    assert {} == await stored(receiver, "s1")


def one_inbox(_made: dict[str, WebhookReceiver]) -> dict[str, WebhookReceiver]:
    """Give two integrations one inbox."""
    inbox = MemoryInbox()
    return {name: WebhookReceiver(ALL[name], inbox) for name in ("shop", "bank")}


REFUSED: Final[list[tuple[Callable[[dict[str, WebhookReceiver]], object], str]]] = [
    (one_inbox, "'shop' and 'bank' share one inbox"),
    (lambda made: {"shop": made["shop"], "store": made["shop"]}, "have one API key"),
    (
        lambda made: {"a": made["north"], "b": WebhookReceiver(Credentials(NORTH.api_key, "x"), MemoryInbox())},
        "'a' and 'b' have one API key: give each its own integration_id",
    ),
    (
        lambda made: {"a": made["shop"], "b": WebhookReceiver(Credentials("k", "an old one"), MemoryInbox())},
        "'a' and 'b' have a secret in common",
    ),
    (lambda made: {"": made["shop"]}, "name of an integration must be"),
    (lambda made: {1: made["shop"]}, "name of an integration must be"),
    (lambda _made: {"shop": SHOP}, "The receiver of 'shop' must be a WebhookReceiver, not Credentials"),
    (lambda made: list(made.values()), "receivers must be a mapping"),
]


@pytest.mark.parametrize(("receivers", "words"), REFUSED)
def test_integrations_that_are_not_separate_are_refused(
    receivers: Callable[[dict[str, WebhookReceiver]], object], words: str
) -> None:
    """One inbox, key or secret of two integrations is an error that names both; no error contains a secret."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        IntegrationReceiver(cast("Any", receivers(make_receivers())))
    assert not any(secret in str(caught.value) for each in ALL.values() for secret in (each.api_key, *each.secrets))


def test_sharing_must_be_asked_for() -> None:
    """With `allow_sharing`, integrations may have one inbox and one secret, but not one key without ids."""
    inbox = MemoryInbox()
    other = Credentials("another key", SHOP.shared_secret)
    receiver = IntegrationReceiver(
        {"a": WebhookReceiver(SHOP, inbox), "b": WebhookReceiver(other, inbox)}, allow_sharing=True
    )
    with pytest.raises(ConfigurationError, match="one API key"):
        receiver.add("c", WebhookReceiver(SHOP, inbox))
    with pytest.raises(ConfigurationError, match="has the name 'a' already"):
        receiver.add("a", WebhookReceiver(BANK, inbox))
    with pytest.raises(ConfigurationError, match="allow_sharing is"):
        IntegrationReceiver({}, allow_sharing=cast("bool", 1))


def test_a_refused_change_changes_nothing() -> None:
    """Credentials of another integration are refused, and the former ones stay."""
    receiver = IntegrationReceiver(make_receivers())
    for wrong in (BANK, Credentials("another", BANK.shared_secret), cast("Credentials", "secret")):
        with pytest.raises(ConfigurationError):
            receiver.set_credentials("shop", wrong)
    assert SHOP == receiver["shop"].credentials
    assert "<IntegrationReceiver shop, bank, north, south>" == repr(receiver)
    assert "<IntegrationReceiver without integrations>" == repr(IntegrationReceiver({}))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["asgi", "aiohttp_app", "aiohttp_handler"])
async def test_it_serves_under_real_servers(kind: str) -> None:
    """Every adapter accepts it: webhooks over a socket reach the inbox of their integration only."""
    receiver = IntegrationReceiver(make_receivers(("shop", "bank")))
    if kind == "asgi":
        serve = under_uvicorn(asgi_app(receiver, path=PATH))
    elif kind == "aiohttp_app":
        serve = under_aiohttp(aiohttp_app(receiver, PATH))
    else:
        app = aiohttp_app(receiver, "/other")
        app.router.add_route("*", PATH, aiohttp_handler(receiver))
        serve = under_aiohttp(app)
    async with serve as server:
        for name, count in (("shop", 3), ("bank", 2)):
            bodies = [message(session_id=f"{name}-{number}") for number in range(count)]
            answers = await asyncio.gather(*(server.post(body, sign(body, ALL[name])) for body in bodies))
            assert [200] * count == [answer.status for answer in answers]
        body = message(session_id="shop-0")
        assert 401 == (await server.post(body, sign(body, SHOP, x_auth_client=BANK.api_key))).status
    statistics = receiver.statistics()
    assert {"recorded": 3} == {
        name: value for name, value in without_clock(statistics.integrations["shop"]).items() if name == "recorded"
    }
    assert {"mismatch": 1} == statistics.integrations["bank"].refused_by_reason
    assert {"bank": 1} == await stored(receiver, "bank-1")
    # It is closed with its server.
    assert 503 == (await receiver.handle("POST", sign(body, SHOP), body)).status


@pytest.mark.anyio
async def test_handlers_of_an_integration_get_its_events_only() -> None:
    """A function that one receiver calls sees no event of another integration."""
    seen: dict[str, list[WebhookEvent]] = {"shop": [], "bank": []}

    def note(name: str) -> Callable[[Delivery[WebhookEvent]], None]:
        return lambda delivery: seen[name].append(delivery.event)

    receivers = {name: WebhookReceiver(ALL[name], MemoryInbox(), on_event=note(name)) for name in seen}
    async with IntegrationReceiver(receivers) as receiver:
        for name in seen:
            body = message(session_id=name)
            await receiver.receive(sign(body, ALL[name]), body)

    assert {"shop": ["shop"], "bank": ["bank"]} == {
        name: [event.session_id for event in events] for name, events in seen.items()
    }


@pytest.mark.anyio
async def test_handlers_that_know_their_integration() -> None:
    """One function can be the handler of every integration, and `handle_pending` calls it for all of them."""
    seen: list[tuple[str, str]] = []

    async def note(name: str, delivery: Delivery[SessionEvent]) -> None:
        seen.append((name, delivery.event.session_id))

    receiver = IntegrationReceiver(make_receivers(("shop", "bank")))
    for name in receiver:
        receiver[name].on(SessionEvent, name="note")(partial(note, name))
        body = message(session_id=f"of the {name}")
        await receiver.receive(sign(body, ALL[name]), body)

    assert 2 >= await receiver.handle_pending()
    await receiver.aclose()

    assert {("shop", "of the shop"), ("bank", "of the bank")} == set(seen)
    assert 2 == len(seen)


HEADER_VALUES: Final = st.sampled_from(
    [
        *(value for each in ALL.values() for value in (each.api_key, each.api_key.upper())),
        *("north-id", "south-id", "SOUTH-ID", "", "unknown"),
    ]
)


WEBHOOKS: Final = st.sampled_from(list(ALL)).flatmap(lambda name: st.tuples(st.just(name), signed_webhooks(ALL[name])))


@given(
    webhooks=st.lists(
        st.sampled_from(list(ALL)).flatmap(lambda name: st.tuples(st.just(name), signed_webhooks(ALL[name]))),
        max_size=4,
    ),
    changes=st.lists(
        st.dictionaries(
            st.sampled_from(["x-auth-client", "vrf-auth-client", "vrf-integration-id", "X-Hmac-Signature"]),
            HEADER_VALUES,
            max_size=2,
        ),
        min_size=4,
        max_size=4,
    ),
)
def test_no_headers_bring_an_event_to_another_tenant(
    webhooks: list[tuple[str, tuple[dict[str, str], bytes]]], changes: list[dict[str, str]]
) -> None:
    """Any headers on a signed body: it is recorded by the integration whose secret signed it, or refused."""

    async def run() -> None:
        async with IntegrationReceiver(make_receivers()) as receiver:
            for (name, (headers, body)), change in zip(webhooks, changes, strict=False):
                before = {other: each.recorded for other, each in receiver.statistics().integrations.items()}
                response = await receiver.handle("POST", {**headers, **change}, body)
                after = {other: each.recorded for other, each in receiver.statistics().integrations.items()}
                recorded = {other for other in after if after[other] != before[other]}
                assert recorded <= {name}
                assert (200 == response.status) == bool(recorded)

    asyncio.run(run())


KEYS: Final = st.sampled_from(["key-a", "KEY-A", "key-b", "key-c"])
ANY_CREDENTIALS: Final = st.builds(
    Credentials,
    KEYS,
    st.sampled_from(["one", "two", "three", "four"]),
    integration_id=st.sampled_from([None, "x", "X", "y"]),
)


@given(given=st.dictionaries(st.sampled_from("abcd"), ANY_CREDENTIALS, max_size=4))
def test_separate_integrations_are_those_that_no_message_can_confuse(given: dict[str, Credentials]) -> None:
    """The check accepts integrations exactly if each pair differs in key or id, and in all secrets."""

    def is_separate(one: Credentials, two: Credentials) -> bool:
        ids = {each.integration_id.lower() for each in (one, two) if each.integration_id}
        same_key = one.api_key.lower() == two.api_key.lower()
        return (not same_key or len(ids) == 2) and not set(one.secrets) & set(two.secrets)

    pairs = [(one, two) for name, one in given.items() for other, two in given.items() if name < other]
    try:
        check_separation(given, allow_sharing=False)
    except ConfigurationError:
        assert not all(is_separate(*pair) for pair in pairs)
    else:
        assert all(is_separate(*pair) for pair in pairs)


@pytest.mark.anyio
async def test_inbox_that_fails_keeps_no_other_from_its_handlers() -> None:
    """`handle_pending` raises the error of an inbox only after the handlers of all other integrations were called."""

    class Failing(MemoryInbox):
        async def lease(self, limit: int, *, seconds: float) -> list[Delivery[WebhookEvent]]:
            raise InboxError

    policy = DeliveryPolicy(background=False)
    seen: list[Delivery[WebhookEvent]] = []
    receiver = IntegrationReceiver({"shop": WebhookReceiver(SHOP, Failing(), on_event=seen.append, delivery=policy)})
    # Not open yet, so neither is the one that is added.
    receiver.add("bank", WebhookReceiver(BANK, MemoryInbox(), on_event=seen.append, delivery=policy))
    async with receiver:
        body = message(session_id="s1")
        await receiver.receive(sign(body, BANK), body)
        with pytest.raises(InboxError):
            await receiver.handle_pending()

    assert ["s1"] == [delivery.event.session_id for delivery in seen]
