"""One receiver for several integrations: it selects the receiver of a request by the API key.

Each integration keeps a `WebhookReceiver` of its own, with its own credentials, inbox, handlers and counters. This
class only selects one by the headers, which are not signed. The selected receiver then verifies the signature with the
secrets of its integration, so a request with the headers of one tenant and the signature of another is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, Self, cast
from uuid import uuid4

from attrs import frozen

from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.arguments import check_flag, type_name
from veriff_async._protocol.integration_routes import check_separation, make_routes
from veriff_async._protocol.request_arguments import check_credentials
from veriff_async.credentials import Credentials
from veriff_async.errors import ConfigurationError
from veriff_async.inbox.memory import MemoryInbox
from veriff_async.webhooks._allowed_networks import parse_networks
from veriff_async.webhooks.receiver import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Collection, Iterator
    from types import TracebackType

    from veriff_async.models.state import RecordResult
    from veriff_async.statistics import ReceiverStatistics
    from veriff_async.telemetry import Telemetry
    from veriff_async.webhooks._allowed_networks import Network
    from veriff_async.webhooks._http import WebhookResponse

__all__ = ("IntegrationReceiver", "IntegrationStatistics")

_HOW_TO_CREATE: Final = 'pass a mapping such as {"shop": WebhookReceiver(credentials, inbox)}'


@frozen(kw_only=True)
class IntegrationStatistics:
    """The counters of a receiver of several integrations.

    Attributes:
        integrations: The counters of each integration's receiver, by name.
        unknown: Those of the requests that select no integration; all of them are refused. ``foreign_client`` counts
            requests with an unknown API key, and those with an API key of several integrations that name none of them.
    """

    integrations: Mapping[str, ReceiverStatistics]
    unknown: ReceiverStatistics


class IntegrationReceiver:
    """Receives the webhooks of several integrations at one address.

    A request selects its integration by its API key (``x-auth-client`` or ``vrf-auth-client``), and by
    ``vrf-integration-id`` if several integrations have this key. The integration's own receiver then does everything
    else, so its webhooks are verified with its secrets only and recorded in its inbox only. Every other request is
    answered as a `WebhookReceiver` answers one with another API key, and counted in ``statistics().unknown``. The log
    names the selected integration of a refused request in the field ``veriff_integration``.

    Whether Veriff sends ``vrf-integration-id`` with every webhook is not certain. For an API key of several
    integrations you can also give each receiver an address of its own: ``asgi_app(receiver["shop"], path="/shop")``.

    Two integrations may not use the same inbox object or a common secret, unless `allow_sharing` is true: a webhook
    that is signed by one tenant and names a session of another would otherwise change the state of that session. Two
    inbox objects with one file, prefix or schema are one inbox too, which is not checked. The handlers of each receiver
    are called for every event of its inbox, so integrations that share an inbox need the same handlers.

    Use it like a `WebhookReceiver`, with `asgi_app`, `aiohttp_app`, `aiohttp_handler` or `handle`. Opening and closing
    it opens and closes all its receivers. It does not close the inboxes.

    Args:
        receivers: The receivers by the name of the integration. Each has its own options and handlers.
        allow_sharing: Whether integrations may share an inbox object or a secret, because they belong to one owner.
        allowed_networks: Networks that webhooks may come from, see `WebhookReceiver`. They are checked before the API
            key, so that strangers do not learn which keys are known: set them here and not in the single receivers.
        trusted_proxies: Networks of your own proxies, see `WebhookReceiver`.
        telemetry: Where traces and metrics of requests go that select no integration; see `VeriffClient`.

    Raises:
        ConfigurationError: A name is empty, a value is not a `WebhookReceiver`, two integrations have the same API key
            without two integration ids, or they share an inbox or a secret.

    Example:
        >>> receiver = IntegrationReceiver({
        ...     "shop": WebhookReceiver(Credentials.from_env(integration="shop"), SqliteInbox("shop.db")),
        ...     "bank": WebhookReceiver(Credentials.from_env(integration="bank"), SqliteInbox("bank.db")),
        ... })
        >>> app = asgi_app(receiver, path="/webhooks/veriff")

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """

    def __init__(
        self,
        receivers: Mapping[str, WebhookReceiver],
        *,
        allow_sharing: bool = False,
        allowed_networks: Collection[Network] | None = None,
        trusted_proxies: Collection[Network] = (),
        telemetry: Telemetry | Literal[False] | None = None,
    ) -> None:
        """Check the receivers; nothing is opened."""
        check_flag("allow_sharing", allow_sharing)
        if not isinstance(cast("object", receivers), Mapping):
            msg = f"receivers must be a mapping of names to receivers, not {type_name(receivers)}: {_HOW_TO_CREATE}."
            raise ConfigurationError(msg)
        self._allow_sharing = allow_sharing
        self._networks = parse_networks(allowed_networks, trusted_proxies)
        # Random credentials, which no sender has: this receiver applies all rules of HTTP, and then refuses everything.
        self._unknown = WebhookReceiver(
            Credentials(str(uuid4()), str(uuid4())),
            MemoryInbox(),
            allowed_networks=allowed_networks,
            trusted_proxies=trusted_proxies,
            telemetry=telemetry,
        )
        self._is_open = False
        # Replaced and never changed, so that requests in other threads see one state or the next.
        self._receivers: Mapping[str, WebhookReceiver] = {}
        self._routes = make_routes({})
        self._replace({name: _check_receiver(name, receiver) for name, receiver in receivers.items()})

    def __repr__(self) -> str:
        """Show the names of the integrations, and no secrets."""
        return f"<IntegrationReceiver {', '.join(self._receivers) or 'without integrations'}>"

    def __getitem__(self, name: str) -> WebhookReceiver:
        """Return the receiver of an integration, for example to register handlers.

        Raises:
            KeyError: No integration has this name.
        """
        return self._receivers[name]

    def __contains__(self, name: object) -> bool:
        """Return whether an integration has this name."""
        return name in self._receivers

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the integrations."""
        return iter(tuple(self._receivers))

    def __len__(self) -> int:
        """Return the number of integrations."""
        return len(self._receivers)

    async def __aenter__(self) -> Self:
        """Open all receivers, also after they were closed."""
        require_asyncio()
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all receivers."""
        await self.aclose()

    def add(self, name: str, receiver: WebhookReceiver) -> None:
        """Receive the webhooks of one more integration, also while the receiver runs.

        Args:
            name: The name of the integration.
            receiver: Its receiver. It is opened if this receiver is open.

        Raises:
            ConfigurationError: The name is in use, or the integration is not separate from the others; see the class.
                Or this receiver is open, and no event loop of asyncio is running, for example in another thread.
        """
        if self._is_open:
            require_asyncio()
        if name in self._receivers:
            msg = f"An integration has the name {name!r} already: remove it first, or set its credentials."
            raise ConfigurationError(msg)
        self._replace({**self._receivers, name: _check_receiver(name, receiver)})
        if self._is_open:
            receiver.open()

    async def remove(self, name: str) -> WebhookReceiver:
        """Stop receiving the webhooks of an integration, and close its receiver.

        Later webhooks of the integration are answered 401, and Veriff repeats them for up to seven days. Webhooks that
        are being recorded are recorded.

        Returns:
            The closed receiver.

        Raises:
            KeyError: No integration has this name.
        """
        require_asyncio()
        receiver = self._receivers[name]
        self._replace({other: each for other, each in self._receivers.items() if other != name})
        await receiver.aclose()
        receiver.request_log.integration = None
        return receiver

    def set_credentials(self, name: str, credentials: Credentials) -> None:
        """Replace the credentials of an integration for later requests, for example to rotate a secret.

        Setting ``receiver[name].credentials`` works too, but does not compare them with those of other integrations.

        Raises:
            KeyError: No integration has this name.
            ConfigurationError: They are not `Credentials`, or the integration would not be separate from the others.
        """
        receiver = self._receivers[name]
        check_credentials(credentials)
        others = {other: each.credentials for other, each in self._receivers.items()}
        check_separation({**others, name: credentials}, allow_sharing=self._allow_sharing)
        receiver.credentials = credentials
        self._update_routes()

    def statistics(self) -> IntegrationStatistics:
        """Return the counters of each integration, and those of the requests that select none."""
        receivers = self._receivers
        return IntegrationStatistics(
            integrations={name: receiver.statistics() for name, receiver in receivers.items()},
            unknown=self._unknown.statistics(),
        )

    def open(self) -> None:
        """Receive webhooks on the running event loop, also after `aclose`; see `WebhookReceiver.open`.

        Raises:
            ConfigurationError: No event loop of asyncio is running.
        """
        self._unknown.open()
        for receiver in self._receivers.values():
            receiver.open()
        self._is_open = True

    async def handle(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterable[bytes],
        *,
        remote: str | None = None,
    ) -> WebhookResponse:
        """Receive one request, and return the response to it; see `WebhookReceiver.handle`.

        Args:
            method: The request's method.
            headers: Its headers, names in any case.
            body: The raw body, whole or in chunks as they arrive.
            remote: The address of the connection, needed with `allowed_networks`.

        Returns:
            The response of the integration's receiver. A request that selects no integration is answered 401, or as a
            `WebhookReceiver` answers requests that are not webhooks.

        Raises:
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.
        """
        is_allowed = self._networks is None or self._networks.allow(remote, headers)
        receiver = self._select(headers) if is_allowed else self._unknown
        return await receiver.handle(method, headers, body, remote=remote)

    async def receive(self, headers: Mapping[str, str], body: bytes) -> RecordResult:
        """Verify, read and record one webhook, for other protocols than HTTP; see `WebhookReceiver.receive`.

        Raises:
            SignatureError: It selects no integration, or is not from Veriff; nothing was recorded.
            WebhookPayloadError: It is signed, but cannot be read; nothing was recorded.
            InboxError: It may not have been recorded. Answer 503.
            InvalidArgumentError: An argument is of a wrong type.
            ConfigurationError: No event loop of asyncio is running.
        """
        return await self._select(headers).receive(headers, body)

    async def handle_pending(self) -> int:
        """Call the handlers of all integrations for events that are due now; see `WebhookReceiver.handle_pending`.

        Returns:
            The number of attempts, those that failed included.

        Raises:
            InboxError: An inbox failed; the others were asked too.
            ConfigurationError: No event loop of asyncio is running.
        """
        require_asyncio()
        calls = (receiver.handle_pending() for receiver in self._receivers.values() if receiver.has_handlers)
        # All are waited for: no handler may run when this returns.
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return sum(result for result in results if isinstance(result, int))

    async def aclose(self) -> None:
        """Close all receivers at the same time; see `WebhookReceiver.aclose`."""
        require_asyncio()
        self._is_open = False
        await asyncio.gather(*(receiver.aclose() for receiver in (*self._receivers.values(), self._unknown)))

    def _select(self, headers: Mapping[str, str]) -> WebhookReceiver:
        """Return the receiver of the integration that the headers select, or the one that refuses all requests."""
        receivers, routes = self._receivers, self._routes
        name = routes.find(headers)
        receiver = None if name is None else receivers.get(name)
        if receiver is not None and name is not None and receiver.credentials is routes.credentials[name]:
            return receiver
        # The credentials of a single receiver may have been set without this object.
        if any(each.credentials is not routes.credentials.get(other) for other, each in receivers.items()):
            self._update_routes()
            name = self._routes.find(headers)
        return self._receivers.get(name, self._unknown) if name is not None else self._unknown

    def _replace(self, receivers: Mapping[str, WebhookReceiver]) -> None:
        """Check receivers, and use them from now on."""
        check_separation(
            {name: receiver.credentials for name, receiver in receivers.items()}, allow_sharing=self._allow_sharing
        )
        users: dict[int, tuple[str, WebhookReceiver]] = {}
        for name, receiver in receivers.items():
            for thing in (receiver, *(() if self._allow_sharing else (receiver.inbox,))):
                other, _ = users.setdefault(id(thing), (name, receiver))
                if other != name:
                    raise _sharing_error(other, name, "receiver" if thing is receiver else "inbox")
        self._receivers = receivers
        for name, receiver in receivers.items():
            receiver.request_log.integration = name  # also for requests at an address of its own
        self._update_routes()

    def _update_routes(self) -> None:
        self._routes = make_routes({name: receiver.credentials for name, receiver in self._receivers.items()})


def _sharing_error(name: str, other: str, thing: Literal["receiver", "inbox"]) -> ConfigurationError:
    remedy = (
        "make one for each"
        if thing == "receiver"
        else "give each its own file, prefix or schema, or pass allow_sharing=True if both have one owner"
    )
    return ConfigurationError(f"Integrations {name!r} and {other!r} share one {thing}: {remedy}.")


def _check_receiver(name: object, receiver: object) -> WebhookReceiver:
    check_integration_name(name)
    if not isinstance(receiver, WebhookReceiver):
        msg = f"The receiver of {name!r} must be a WebhookReceiver, not {type_name(receiver)}: {_HOW_TO_CREATE}."
        raise ConfigurationError(msg)
    return receiver


def check_integration_name(name: object) -> str:
    """Return the name of an integration; it appears in messages, so it must be printable.

    Raises:
        ConfigurationError: It is not a str, is empty, or has white space around it or control characters.
    """
    if isinstance(name, str) and name and name.isprintable() and name == name.strip():
        return name
    msg = f'The name of an integration must be a short printable str, not {type_name(name)}: for example "shop".'
    raise ConfigurationError(msg)
