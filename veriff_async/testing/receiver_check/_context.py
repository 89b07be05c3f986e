"""The context of a case: the endpoint, credentials, signed webhooks, and views into the user's system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar, cast
from uuid import UUID, uuid4

from attrs import define, evolve, field, frozen

from veriff_async._protocol import headers
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.signing import sign
from veriff_async.errors import ConfigurationError
from veriff_async.sandbox._records import WebhookKind
from veriff_async.sandbox._samples import samples
from veriff_async.testing.receiver_check._http_client import Endpoint, HttpConnection, HttpRequest, Reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

    from veriff_async.credentials import Credentials

__all__ = (
    "VENDOR_DATA",
    "CheckContext",
    "CheckOptions",
    "CountEffects",
    "Effects",
    "HookError",
    "SessionsUsedError",
    "SetFailing",
    "Webhook",
)

VENDOR_DATA: Final = "veriff-async check-receiver"
"""The ``vendorData`` of every test webhook, so that you can find and delete what they caused."""

# Seconds between two looks at the effects.
_POLL: Final = 0.05
# Seconds that one call of a user's function may take.
_HOOK_SECONDS: Final = 60.0
_T = TypeVar("_T")


@frozen
class Effects:
    """The effects of the decisions of one session.

    Attributes:
        count: How many decisions took effect: rows written, accounts opened, mails sent.
        status: The status that your system has for the session now, for example ``approved``; ``None`` if it is not
            known.
    """

    count: int
    status: str | None = None


CountEffects: TypeAlias = Callable[[str], Effects | int | Awaitable[Effects | int]]
"""Returns what your system did with the decisions of a session, by its id."""

SetFailing: TypeAlias = Callable[[bool], object]
"""Makes the work of your system fail, for example by stopping its database, or lets it succeed again."""


class SessionsUsedError(Exception):
    """The user gave too few sessions."""


class HookError(Exception):
    """A function of the user failed."""


@frozen
class Webhook:
    """A body, and the headers of a signed request with it."""

    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def request(self) -> HttpRequest:
        """Return the request as Veriff sends it."""
        return HttpRequest(headers=self.headers, body=self.body)


@frozen(kw_only=True)
class CheckOptions:
    """The options of a check; see `check_receiver`."""

    path: str
    deadline: float
    slow_seconds: float
    stall_seconds: float | None
    large_bytes: int
    effect_seconds: float
    settle_seconds: float
    revoked_secret: str | None = field(repr=False)
    vendor_data: str
    sessions: Iterator[str] | None
    count_effects: CountEffects | None
    set_failing: SetFailing | None
    tls: ssl.SSLContext | None
    allow_remote: bool
    timeout: float


@define(eq=False)
class CheckContext:
    """The context of one case.

    Attributes:
        endpoint: Where requests are sent.
        credentials: The credentials that the endpoint has.
        options: The options of the check.
        session_ids: Ids of the sessions that were sent.
        known_success: The status other than 200 with which the endpoint accepts webhooks, if that was reported.
        replies: All responses of the case, each with the signature that must not be in it.
    """

    endpoint: Endpoint
    credentials: Credentials = field(repr=False)
    options: CheckOptions
    known_success: int | None = None
    session_ids: list[str] = field(factory=list[str])
    replies: list[tuple[Reply, str]] = field(factory=list[tuple[Reply, str]], repr=False)

    def new_session(self) -> str:
        """Return the id of a new session, or the next one of the user's.

        Raises:
            SessionsUsedError: All of the user's are used.
            ConfigurationError: It is not the id of a session.
        """
        session_id = str(uuid4()) if self.options.sessions is None else next(self.options.sessions, None)
        if session_id is None:
            raise SessionsUsedError
        if not _is_uuid(session_id):
            msg = "An item of session_ids is not the id of a session: give UUIDs as texts."
            raise ConfigurationError(msg)
        self.session_ids.append(session_id)
        return session_id

    def sample(
        self, kind: WebhookKind, status: str | None = None, *, session_id: str | None = None
    ) -> dict[str, object]:
        """Return the JSON of a webhook, as the sandbox sends it."""
        found = samples(
            kind,
            session_id=session_id or self.new_session(),
            status=status,
            now=datetime.now(UTC),
            vendor_data=self.options.vendor_data,
        )
        return dict(found[0].body)

    def decision(self, decision: str, /, *, session_id: str | None = None, **changes: object) -> dict[str, object]:
        """Return the JSON of a decision.

        Args:
            decision: The decision, for example ``approved``.
            session_id: The session; by default a new one.
            changes: Members of ``verification`` to replace or add.
        """
        body = self.sample(WebhookKind.DECISION, decision, session_id=session_id)
        return {**body, "verification": {**cast("dict[str, object]", body["verification"]), **changes}}

    def webhook(self, body: Mapping[str, object] | bytes, *, secret: str | None = None) -> Webhook:
        """Return a signed webhook.

        Args:
            body: Its JSON, or its bytes.
            secret: The secret that signs it; by default the first one.
        """
        data = body if isinstance(body, bytes) else dump_json(body)
        return Webhook(data, self.sign_headers(sign(secret or self.credentials.shared_secret, data)))

    def sign_headers(self, signature: str | None, *, api_key: str | None = "") -> tuple[tuple[str, str], ...]:
        """Return the headers of a webhook, of both families.

        Args:
            signature: The signature; `None` for none.
            api_key: Another API key; `None` for none.
        """
        key = self.credentials.api_key if api_key == "" else api_key
        values = {
            "Content-Type": "application/json",
            headers.AUTH_CLIENT: key,
            headers.HMAC_SIGNATURE: signature,
            headers.VRF_AUTH_CLIENT: key,
            headers.VRF_HMAC_SIGNATURE: signature,
            headers.INTEGRATION_ID: self.credentials.integration_id,
        }
        # Seen: real webhooks have names in lower case.
        return tuple((name.lower(), value) for name, value in values.items() if value is not None)

    async def post(self, webhook: Webhook) -> Reply:
        """Send a webhook on a connection of its own."""
        return await self.send(webhook.request())

    async def send(self, request: HttpRequest, connection: HttpConnection | None = None) -> Reply:
        """Send a request."""
        reply = await (self.endpoint if connection is None else connection).send(request)
        reply = evolve(reply, is_known_success=reply.status is not None and reply.status == self.known_success)
        self.replies.append((reply, sign(self.credentials.shared_secret, request.body)))
        return reply

    async def post_together(self, webhooks: Sequence[Webhook]) -> list[Reply]:
        """Send webhooks at the same time."""
        return await asyncio.gather(*map(self.post, webhooks))

    async def effects(self, session_id: str) -> Effects:
        """Return the effects of a session."""
        if self.options.count_effects is None:
            raise AssertionError
        found: object = await _call(self.options.count_effects(session_id), "effects")
        if isinstance(found, Effects):
            return found
        # bool is an int, and a hook that returns whether there is an effect cannot show a second one.
        if not isinstance(found, int) or isinstance(found, bool):
            msg = "the function for effects must return a number or Effects"
            raise HookError(msg)
        return Effects(found)

    async def effects_after(
        self, session_id: str, is_reached: Callable[[Effects], bool] = lambda effects: effects.count > 0
    ) -> Effects:
        """Wait until the effects are as expected or the time is over, and then for effects that must not happen.

        Args:
            session_id: The session.
            is_reached: Whether the effects are as expected; by default, whether there is one.
        """
        end = monotonic() + self.options.effect_seconds
        # The user's system cannot wake us.
        while not is_reached(await self.effects(session_id)) and monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        await asyncio.sleep(self.options.settle_seconds)
        return await self.effects(session_id)

    async def switch_failing(self, *, is_failing: bool) -> None:
        """Make the user's work fail or succeed."""
        if self.options.set_failing is not None:
            result = self.options.set_failing(is_failing)
            if isawaitable(result):
                await _call(result, "failures")


def _is_uuid(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(UUID(text))
    except ValueError:
        return False


async def _call(result: _T | Awaitable[_T], name: str) -> _T:
    if not isawaitable(result):
        return result
    try:
        async with asyncio.timeout(_HOOK_SECONDS):
            return await result
    except ConfigurationError as error:  # of the commands and URLs of the command line
        msg = str(error).rstrip(".")
    except TimeoutError:
        msg = f"the function for {name} takes longer than {_HOOK_SECONDS:g} seconds"
    raise HookError(msg)
