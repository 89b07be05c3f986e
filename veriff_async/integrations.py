"""Several integrations in one application: their credentials, inboxes and clients by name, and one receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self, cast

from attrs import evolve, field, frozen

from veriff_async._client.options import ClientOptions, optional_variables
from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_flag, check_instance, check_text, type_name
from veriff_async._protocol.base_url import BASE_URL_VARIABLE
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.client import VeriffClient
from veriff_async.credentials import Credentials, environment_of, variable_of
from veriff_async.errors import ConfigurationError
from veriff_async.webhooks._options import ReceiverOptions
from veriff_async.webhooks.integrations import IntegrationReceiver
from veriff_async.webhooks.receiver import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import TracebackType

    from veriff_async.inbox._protocol import Inbox
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network

__all__ = ("Integration", "Integrations")

_HOW_TO_CREATE = 'pass a mapping such as {"shop": Integration(credentials, inbox, base_url="https://...")}'


@frozen
class Integration:
    """One of several integrations.

    Args:
        credentials: Its API key and secrets.
        inbox: Where its webhooks are recorded, and where its client waits for them. Each integration has its own, for
            example its own SQLite file, prefix in Redis or schema in PostgreSQL.
        base_url: Its own base URL, which only its client needs; see `VeriffClient`.
        receiver_options: Options of its `WebhookReceiver`.
        client_options: Options of its `VeriffClient`, without ``inbox``.

    Example:
        >>> Integration(Credentials("key", "secret"), SqliteInbox("shop.db"), base_url="https://shop.veriff.example")
    """

    credentials: Credentials
    inbox: Inbox
    base_url: str | None = field(default=None, kw_only=True, repr=False)
    receiver_options: ReceiverOptions = field(factory=ReceiverOptions, kw_only=True, repr=False)
    client_options: ClientOptions = field(factory=ClientOptions, kw_only=True, repr=False)

    @classmethod
    def from_env(cls, name: str, inbox: Inbox, environ: Mapping[str, str] | None = None) -> Self:
        """Read the variables of an integration: for ``"shop"``, ``VERIFF_SHOP_API_KEY`` and others.

        The others are ``VERIFF_SHOP_SHARED_SECRET``, ``VERIFF_SHOP_INTEGRATION_ID`` and ``VERIFF_SHOP_BASE_URL``.
        ``VERIFF_FEEDBACK_URL``, ``VERIFF_SYNC_URL``, ``VERIFF_ALLOW_INSECURE_HOSTS`` and ``VERIFF_CA_BUNDLE`` hold for
        all integrations.

        Args:
            name: Your name of the integration.
            inbox: Its inbox.
            environ: Variables to use instead of the environment of the process.

        Raises:
            ConfigurationError: A variable of the API key or the secret is missing, or a variable is invalid; the
                message names it. Or the name cannot be part of a variable's name.
        """
        environment = environment_of(environ)
        check_text("name", name)
        return cls(
            Credentials.from_env(environment, integration=name),
            inbox,
            base_url=environment.get(variable_of(BASE_URL_VARIABLE, name), "").strip() or None,
            client_options=optional_variables(environment),
        )


class Integrations:
    """Several integrations of one application, separated from each other.

    Each has its own credentials, inbox, receiver and client, so no session, event, wait or counter of one is seen by
    another. `receiver` receives the webhooks of all of them at one address; `client` returns the client of one.

    Use it as ``async with Integrations(...) as integrations:``, inside the blocks of the inboxes, which it does not
    close. Clients belong to one event loop, so create it once for each event loop.

    Args:
        integrations: The integrations by your names of them.
        allow_sharing: Whether integrations may share an inbox object or a secret; see `IntegrationReceiver`.
        allowed_networks: Networks that webhooks may come from; see `IntegrationReceiver`.
        trusted_proxies: Networks of your own proxies; see `WebhookReceiver`.
        telemetry: Where traces and metrics of refused requests go that select no integration; see `VeriffClient`.

    Attributes:
        receiver: The receiver of all integrations, for `asgi_app`, `aiohttp_app` or `aiohttp_handler`;
            ``receiver["shop"]`` is the receiver of one.

    Raises:
        ConfigurationError: A value is not an `Integration`, an option of one cannot work, or two are not separate.

    Example:
        >>> async with SqliteInbox("shop.db") as shop, SqliteInbox("bank.db") as bank:
        ...     async with Integrations({
        ...         "shop": Integration.from_env("shop", shop),
        ...         "bank": Integration.from_env("bank", bank),
        ...     }) as integrations:
        ...         session = await integrations.client("shop").create_session(vendor_data="user-42")
    """

    def __init__(
        self,
        integrations: Mapping[str, Integration],
        *,
        allow_sharing: bool = False,
        allowed_networks: Collection[Network] | None = None,
        trusted_proxies: Collection[Network] = (),
        telemetry: Telemetry | Literal[False] | None = None,
    ) -> None:
        """Check the integrations; nothing is opened."""
        check_flag("allow_sharing", allow_sharing)
        if not isinstance(cast("object", integrations), Mapping):
            msg = f"integrations must be a mapping, not {type_name(integrations)}: {_HOW_TO_CREATE}."
            raise ConfigurationError(msg)
        self.receiver: IntegrationReceiver = IntegrationReceiver(
            {name: _make_receiver(name, integration) for name, integration in integrations.items()},
            allow_sharing=allow_sharing,
            allowed_networks=allowed_networks,
            trusted_proxies=trusted_proxies,
            telemetry=telemetry,
        )
        self._integrations = dict(integrations)
        self._clients: dict[str, VeriffClient] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        """Show the names of the integrations, and no secrets."""
        return f"<Integrations {', '.join(self._integrations) or 'without integrations'}>"

    def __getitem__(self, name: str) -> Integration:
        """Return an integration with its present credentials.

        Raises:
            KeyError: No integration has this name.
        """
        return self._integrations[name]

    def __contains__(self, name: object) -> bool:
        """Return whether an integration has this name."""
        return name in self._integrations

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the integrations."""
        return iter(tuple(self._integrations))

    def __len__(self) -> int:
        """Return the number of integrations."""
        return len(self._integrations)

    async def __aenter__(self) -> Self:
        """Open the receiver and the clients, also after they were closed."""
        require_asyncio()
        self._is_closed = False
        self.receiver.open()
        for client in self._clients.values():
            await client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the receiver and the clients."""
        await self.aclose()

    def client(self, name: str) -> VeriffClient:
        """Return the client of an integration. It is created by the first call, and closed with this object.

        Args:
            name: The name of the integration.

        Raises:
            KeyError: No integration has this name.
            ConfigurationError: It has no base URL, an option is invalid, or this object is closed.
        """
        integration = self._integrations[name]
        client = self._clients.get(name)
        if client is None:
            if self._is_closed:
                msg = "The integrations are closed: call client() inside of their async with block."
                raise ConfigurationError(msg)
            client = self._clients[name] = _make_client(name, integration)
        return client

    def end_waits(self) -> None:
        """End all waits of all clients with `ClientClosedError`; see `VeriffClient.end_waits`."""
        for client in tuple(self._clients.values()):
            client.end_waits()

    def add(self, name: str, integration: Integration) -> None:
        """Add an integration, also while the others run.

        Raises:
            ConfigurationError: The name is in use, an option cannot work, or the integration is not separate from the
                others; see `IntegrationReceiver`.
        """
        self.receiver.add(name, _make_receiver(name, integration))
        self._integrations[name] = integration

    async def remove(self, name: str) -> Integration:
        """Remove an integration, and close its receiver and client. Its inbox stays open.

        Returns:
            The integration with its last credentials.

        Raises:
            KeyError: No integration has this name.
        """
        require_asyncio()
        integration = self._integrations.pop(name)
        client = self._clients.pop(name, None)
        try:
            await self.receiver.remove(name)
        finally:
            if client is not None:
                await client.aclose()
        return integration

    def set_credentials(self, name: str, credentials: Credentials) -> None:
        """Replace the credentials of an integration in its receiver and its client, while both run.

        A call that has begun keeps the credentials that signed it.

        Raises:
            KeyError: No integration has this name.
            ConfigurationError: They are not `Credentials`, or the integration would not be separate from the others.

        Example:
            >>> integrations.set_credentials("shop", integrations["shop"].credentials.with_rotated_secret(new_secret))
        """
        integration = self._integrations[name]
        self.receiver.set_credentials(name, credentials)  # it checks them
        self._integrations[name] = evolve(integration, credentials=credentials)
        if name in self._clients:
            self._clients[name].credentials = credentials

    async def aclose(self) -> None:
        """Close the receiver, then all clients. A second call does nothing."""
        require_asyncio()
        self._is_closed = True
        try:
            await self.receiver.aclose()
        finally:
            # Afterwards, because handlers that are ending may use a client.
            await asyncio.gather(*(client.aclose() for client in self._clients.values()))


def _make_receiver(name: object, integration: object) -> WebhookReceiver:
    checked = check_instance(f"Integration {name!r}", integration, Integration, remedy=_HOW_TO_CREATE)
    check_credentials(checked.credentials)
    for option in ("receiver_options", "client_options"):
        value: object = getattr(checked, option)
        if not isinstance(value, Mapping):
            msg = f"{option} of integration {name!r} must be a dict of options, not {type_name(value)}."
            raise ConfigurationError(msg)
    return WebhookReceiver(checked.credentials, checked.inbox, **checked.receiver_options)


def _make_client(name: str, integration: Integration) -> VeriffClient:
    if integration.base_url is None:
        msg = f"Integration {name!r} has no base_url, which its client needs: copy it from its API Keys page."
        raise ConfigurationError(msg)
    if "inbox" in integration.client_options:
        msg = f"The client_options of integration {name!r} have an inbox: pass it as Integration(credentials, inbox)."
        raise ConfigurationError(msg)
    options = integration.client_options | ClientOptions(inbox=integration.inbox)
    return VeriffClient(integration.credentials, base_url=integration.base_url, **options)
