"""Several integrations of one application: clients by name, and rotation in one place, with a sandbox for each."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from tests.webhooks.conftest import PATH, under_aiohttp
from veriff_async import (
    ClientClosedError,
    ConfigurationError,
    Credentials,
    Integration,
    Integrations,
    NotFoundError,
    WebhookReceiver,
)
from veriff_async.inbox import MemoryInbox
from veriff_async.sandbox import Sandbox
from veriff_async.webhooks import ReceiverOptions, aiohttp_app

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NAMES: Final[tuple[str, str]] = ("shop", "bank")


def make_integration(sandbox: Sandbox, inbox: MemoryInbox | None = None) -> Integration:
    """Describe the integration that a sandbox stands for."""
    return Integration(sandbox.credentials, inbox or MemoryInbox(), base_url=sandbox.base_url)


@asynccontextmanager
async def two_tenants() -> AsyncGenerator[tuple[dict[str, Sandbox], Integrations]]:
    """Run a sandbox for each of two integrations, whose webhooks come to one address."""
    async with Sandbox() as shop, Sandbox() as bank:
        sandboxes: dict[str, Sandbox] = {"shop": shop, "bank": bank}
        async with (
            Integrations({name: make_integration(each) for name, each in sandboxes.items()}) as integrations,
            under_aiohttp(aiohttp_app(integrations.receiver, PATH)) as server,
        ):
            for sandbox in sandboxes.values():
                sandbox.webhook_url = server.url
            yield sandboxes, integrations


@pytest.mark.anyio
async def test_each_tenant_waits_for_its_own_decisions() -> None:
    """Two tenants verify at the same time: each gets its decisions by webhook, and knows no session of the other."""
    async with two_tenants() as (sandboxes, integrations):

        async def verify(name: str) -> str:
            veriff = integrations.client(name)
            session = await veriff.create_session(vendor_data=name)
            await session.submit()
            waiting = asyncio.create_task(session.wait_for_decision(timeout=60))
            sandboxes[name].decide(session.id, "approved" if name == "shop" else "declined")
            decision = await waiting
            assert ("approved" if name == "shop" else "declined") == decision.status
            return session.id

        ids = dict(zip(NAMES, await asyncio.gather(*map(verify, NAMES)), strict=True))

        for name, other in (NAMES, NAMES[::-1]):
            with pytest.raises(NotFoundError):
                await integrations.client(name).session(ids[other]).decision()
            inbox = integrations[name].inbox
            assert [ids[name]] == list(await inbox.get_states(list(ids.values())))
            assert {} == integrations.receiver[name].statistics().refused_by_reason
            assert 1 == integrations.client(name).statistics().waits
        assert 0 == integrations.receiver.statistics().unknown.refused


@pytest.mark.anyio
async def test_secrets_are_rotated_in_one_place() -> None:
    """New credentials of an integration reach its client and its receiver, and those of the others stay."""
    async with two_tenants() as (sandboxes, integrations):
        sandbox, veriff = sandboxes["shop"], integrations.client("shop")
        rotated = integrations["shop"].credentials.with_rotated_secret("a new secret of the shop")
        sandbox.credentials = rotated.without_secret(1)

        integrations.set_credentials("shop", rotated.without_secret(1))

        session = await veriff.create_session()
        await session.submit()
        sandbox.decide(session.id, "approved")
        assert (await session.wait_for_decision(timeout=60)).is_approved
        assert "a new secret of the shop" == veriff.credentials.shared_secret
        assert sandboxes["bank"].credentials == integrations["bank"].credentials
        with pytest.raises(ConfigurationError, match="one API key"):
            integrations.set_credentials("shop", sandboxes["bank"].credentials)
        assert rotated.shared_secret == integrations["shop"].credentials.shared_secret


@pytest.mark.anyio
async def test_clients_are_opened_once_and_closed_together() -> None:
    """A name has one client while the block lasts; afterwards it is closed, and the next block opens it again."""
    async with Sandbox() as shop, Sandbox() as bank:
        integrations = Integrations({"shop": make_integration(shop), "bank": make_integration(bank)})
        async with integrations:
            veriff = integrations.client("shop")
            assert veriff is integrations.client("shop")
            await veriff.create_session()
        with pytest.raises(ClientClosedError):
            await veriff.create_session()
        with pytest.raises(ConfigurationError, match="The integrations are closed"):
            integrations.client("bank")
        async with integrations:
            await integrations.client("shop").create_session()
            integrations.end_waits()
        assert 2 == len(shop.sessions)
        assert "<Integrations shop, bank>" == repr(integrations)


@pytest.mark.anyio
async def test_integrations_can_be_added_and_removed() -> None:
    """An added integration is received and has a client; the client of a removed one is closed."""
    async with Sandbox() as shop, Sandbox() as bank, Integrations({"shop": make_integration(shop)}) as integrations:
        integrations.add("bank", make_integration(bank))
        veriff = integrations.client("bank")
        await veriff.create_session()

        removed = await integrations.remove("bank")

        assert removed.credentials == bank.credentials
        assert ["shop"] == list(integrations)
        assert (1, False, "bank" in integrations.receiver) == (len(integrations), "bank" in integrations, False)
        with pytest.raises(ClientClosedError):
            await veriff.create_session()
        for name in ("bank", "another"):
            with pytest.raises(KeyError):
                integrations.client(name)
            with pytest.raises(KeyError):
                await integrations.remove(name)


ENVIRON: Final = {
    "VERIFF_SHOP_API_KEY": "key of the shop",
    "VERIFF_SHOP_SHARED_SECRET": "new, old",
    "VERIFF_SHOP_BASE_URL": "https://shop.example",
    "VERIFF_EU_BANK_API_KEY": "key of the bank",
    "VERIFF_EU_BANK_SHARED_SECRET": "secret of the bank",
    "VERIFF_EU_BANK_INTEGRATION_ID": "bank",
    "VERIFF_ALLOW_INSECURE_HOSTS": "veriff-sandbox",
}


def test_integrations_can_be_read_from_the_environment() -> None:
    """The variables of an integration have its name in them, in upper case and with _ for -."""
    shop = Integration.from_env("shop", MemoryInbox(), ENVIRON)
    bank = Integration.from_env("eu-bank", MemoryInbox(), ENVIRON)

    assert Credentials("key of the shop", "new", previous_secrets=("old",)) == shop.credentials
    assert "https://shop.example" == shop.base_url
    assert {"allow_insecure_hosts": ("veriff-sandbox",)} == shop.client_options
    assert Credentials("key of the bank", "secret of the bank", integration_id="bank") == bank.credentials
    integrations = Integrations({"shop": shop, "eu-bank": bank})
    with pytest.raises(ConfigurationError, match="Integration 'eu-bank' has no base_url"):
        integrations.client("eu-bank")


@pytest.mark.parametrize(
    ("name", "words"),
    [("store", "VERIFF_STORE_API_KEY is not set"), ("ein laden", "integration is"), ("", "integration is")],
)
def test_missing_variables_are_named(name: str, words: str) -> None:
    """The error has the full name of the variable, or says which names can be part of one."""
    with pytest.raises(ConfigurationError, match=words):
        Integration.from_env(name, MemoryInbox(), ENVIRON)


@pytest.mark.parametrize(
    ("integrations", "words"),
    [
        ([], "integrations must be a mapping"),
        ({"shop": Credentials("key", "secret")}, "Integration 'shop' must be an Integration, not Credentials"),
        ({"shop": Integration(cast("Credentials", "key"), MemoryInbox())}, "must be a Credentials instance"),
        ({"shop": Integration(Credentials("k", "s"), cast("MemoryInbox", "inbox.db"))}, "inbox must be an Inbox"),
        (
            {"shop": Integration(Credentials("k", "s"), MemoryInbox(), client_options=cast("Any", 1))},
            "client_options of integration 'shop' must be a dict",
        ),
    ],
)
def test_wrong_integrations_are_named(integrations: Any, words: str) -> None:  # noqa: ANN401
    """A value that is no integration is an error that names the integration and the remedy."""
    with pytest.raises(ConfigurationError, match=words):
        Integrations(integrations)


def test_the_inbox_of_a_client_is_that_of_its_integration() -> None:
    """A second inbox in the options of the client is refused, because its waits would not see the webhooks."""
    integration = Integration(
        Credentials("k", "s"), MemoryInbox(), base_url="https://a.example", client_options={"inbox": MemoryInbox()}
    )
    with pytest.raises(ConfigurationError, match="client_options of integration 'shop' have an inbox"):
        Integrations({"shop": integration}).client("shop")


def test_receiver_options_are_options_of_the_receiver() -> None:
    """The type of the options has names and types of keyword arguments of `WebhookReceiver`."""
    parameters = signature(WebhookReceiver).parameters
    for name, kind in ReceiverOptions.__annotations__.items():
        assert parameters[name].annotation == getattr(kind, "__forward_arg__", kind)


@pytest.mark.anyio
async def test_integration_without_a_client_is_rotated_and_removed() -> None:
    """An integration whose client was never opened gets new credentials, and is removed, without opening one."""
    shop = Credentials("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "secret of the shop")
    async with Integrations({"shop": Integration(shop, MemoryInbox())}) as integrations:
        rotated = shop.with_rotated_secret("the next secret")
        integrations.set_credentials("shop", rotated)
        assert rotated == integrations["shop"].credentials

        removed = await integrations.remove("shop")

        assert rotated == removed.credentials
        assert [] == list(integrations)
