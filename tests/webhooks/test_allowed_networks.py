"""The addresses that webhooks may come from: the check fails closed, and ignores headers of the sender."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, Final

import pytest
from aiohttp import ClientSession, web
from hypothesis import given, strategies as st

from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from veriff_async import ConfigurationError, WebhookReceiver
from veriff_async.inbox import MemoryInbox
from veriff_async.webhooks import aiohttp_handler, asgi_app
from veriff_async.webhooks._allowed_networks import parse_networks

pytestmark = pytest.mark.anyio

VERIFF: Final = ["192.0.2.0/27", "2001:db8:1::/48", "198.51.100.7"]
PROXIES: Final = ["10.0.0.0/8", "127.0.0.1"]
BODY: Final = message()


def allow(remote: str | None, forwarded: str | None = None, *, proxies: list[str] | None = None) -> bool:
    """Return whether a request is allowed."""
    senders = parse_networks(VERIFF, PROXIES if proxies is None else proxies)
    assert senders is not None
    return senders.allow(remote, {} if forwarded is None else {"X-Forwarded-For": forwarded})


@pytest.mark.parametrize(
    ("remote", "is_allowed"),
    [
        ("192.0.2.0", True),
        ("192.0.2.31", True),
        ("192.0.2.32", False),
        ("198.51.100.7", True),
        ("::ffff:192.0.2.1", True),
        ("::ffff:203.0.113.1", False),
        ("2001:db8:1::5", True),
        ("2001:db8:2::5", False),
        ("[2001:db8:1::5]:443", True),
        ("192.0.2.1:443", True),
        (None, False),
        ("", False),
        ("unix:", False),
        ("localhost", False),
        ("192.0.2.1, 192.0.2.1", False),
    ],
)
def test_address_of_the_connection_counts(remote: str | None, is_allowed: bool) -> None:  # noqa: FBT001
    """An address is allowed if it is in a network, and one that cannot be read is not."""
    assert allow(remote) is is_allowed


@pytest.mark.parametrize(
    ("remote", "forwarded", "is_allowed"),
    [
        ("10.1.2.3", "192.0.2.1", True),
        ("10.1.2.3", "203.0.113.9, 192.0.2.1", True),
        ("10.1.2.3", "192.0.2.1, 10.9.9.9", True),
        ("10.1.2.3", "192.0.2.1, 203.0.113.9", False),
        ("10.1.2.3", "192.0.2.1, 203.0.113.9, 10.9.9.9", False),
        ("10.1.2.3", "192.0.2.1, rubbish", False),
        ("10.1.2.3", "192.0.2.1,", False),
        ("10.1.2.3", "", False),
        ("10.1.2.3", None, False),
        ("10.1.2.3", "10.9.9.9", False),
        ("203.0.113.9", "192.0.2.1", False),
        ("192.0.2.1", "203.0.113.9", True),
        ("10.1.2.3", '"[2001:db8:1::5]:443"', True),
    ],
)
def test_forwarded_address_counts_from_trusted_proxies_only(
    remote: str,
    forwarded: str | None,
    is_allowed: bool,  # noqa: FBT001
) -> None:
    """The header is read from its end, past trusted proxies, and only if a trusted proxy sent it."""
    assert allow(remote, forwarded) is is_allowed


def test_header_is_ignored_without_trusted_proxies() -> None:
    """Without trusted proxies the header is ignored."""
    assert not allow("10.1.2.3", "192.0.2.1", proxies=[])


@given(written=st.text(max_size=60), hop=st.ip_addresses())
def test_sender_cannot_forge_the_header(written: str, hop: object) -> None:
    """The address that the proxy adds decides, and not the content that the sender wrote before it."""
    address = ip_network(str(hop))
    inside = any(
        address.version == ip_network(each).version and address.subnet_of(ip_network(each))  # type: ignore[arg-type]
        for each in [*VERIFF, *PROXIES]
    )
    if not inside and str(hop) != "::1" and getattr(hop, "ipv4_mapped", None) is None:
        assert not allow("10.1.2.3", f"{written}, {hop}")


@pytest.mark.parametrize(
    "networks", ["192.0.2.0/27", [""], ["example.com"], [None], [5], ["192.0.2.1/27"], 5, {"a": 1}]
)
def test_invalid_networks_are_refused(networks: Any) -> None:  # noqa: ANN401
    """An invalid list is refused when the receiver is made."""
    for options in ({"allowed_networks": networks}, {"allowed_networks": [], "trusted_proxies": networks}):
        with pytest.raises(ConfigurationError, match=r"allowed_networks|trusted_proxies"):
            WebhookReceiver(CREDENTIALS, MemoryInbox(), **options)
    with pytest.raises(ConfigurationError, match="has no effect"):
        WebhookReceiver(CREDENTIALS, MemoryInbox(), trusted_proxies=PROXIES)


async def test_receiver_answers_403_to_other_addresses() -> None:
    """A request from another address, or without one, is refused before its body is read."""
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), allowed_networks=[ip_network("192.0.2.0/27")])

    statuses = [
        (await receiver.handle("POST", sign_headers(BODY), BODY, remote=remote)).status
        for remote in ("192.0.2.1", "203.0.113.1", None)
    ]

    assert statuses == [200, 403, 403]
    assert (await receiver.handle("POST", sign_headers(BODY, secret="wrong"), BODY, remote="192.0.2.1")).status == 401
    assert receiver.statistics().refused == 3
    await receiver.aclose()


async def test_aiohttp_passes_the_address_of_the_connection() -> None:
    """The handler of aiohttp.web names the peer."""
    for networks, status in ((["127.0.0.1"], 200), (["192.0.2.0/27"], 403)):
        receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), allowed_networks=networks)
        app = web.Application()
        app.router.add_post("/", aiohttp_handler(receiver))
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with (
            ClientSession() as http,
            http.post(f"http://127.0.0.1:{runner.addresses[0][1]}", data=BODY, headers=sign_headers(BODY)) as response,
        ):
            assert response.status == status
        await runner.cleanup()
        await receiver.aclose()


@pytest.mark.parametrize(("client", "status"), [(["192.0.2.1", 443], 200), (["203.0.113.1", 1], 403), (None, 403)])
async def test_asgi_passes_the_address_of_the_connection(client: object, status: int) -> None:
    """The ASGI application names the client of its scope."""
    receiver = WebhookReceiver(CREDENTIALS, MemoryInbox(), allowed_networks=VERIFF)
    headers = [(name.encode(), value.encode()) for name, value in sign_headers(BODY).items()]
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODY}

    async def send(message: dict[str, object]) -> None:
        sent.append(message.get("status"))

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "client": client}
    await asgi_app(receiver)(scope, receive, send)

    assert sent[0] == status
    await receiver.aclose()
