"""The client for synchronous code: scripts, Flask, Django under WSGI, Celery.

    with blocking.open_client() as veriff:
        session = veriff.create_session(vendor_data="user-42")
        session.upload(Media("front.jpg", "document-front"), Media("selfie.jpg", "face"))
        session.submit()
        decision = session.wait_for_decision()

An event loop in a thread runs the asynchronous client, of whose methods these are made.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

from veriff_async._client.open_session import client_from
from veriff_async._client.options import ClientOptions, SessionOptions, split_options
from veriff_async._protocol.arguments import check_function
from veriff_async._protocol.option_names import check_names
from veriff_async.blocking._classes import BlockingClient, BlockingMediaStream, BlockingSession
from veriff_async.blocking._portal import Portal
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator

    from veriff_async.credentials import Credentials

__all__ = ("BlockingClient", "BlockingMediaStream", "BlockingSession", "open_client", "open_session")

_OWN = ("credentials", "base_url", "loop_factory")


def open_client(
    credentials: Credentials | None = None,
    *,
    base_url: str | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
    **options: Unpack[ClientOptions],
) -> BlockingClient:
    """Open a client for synchronous code.

    Use it as ``with open_client() as veriff:``, or keep it for the life of the process: `BlockingClient.close` closes
    it, or else the end of the process.

    Args:
        credentials: API key and secrets; from the environment by default.
        base_url: The integration's base URL; ``VERIFF_BASE_URL`` by default.
        loop_factory: Creates the event loop, for example ``uvloop.new_event_loop``; by default asyncio does.
        **options: The other options of `VeriffClient`, except ``http_session``, which belongs to another event loop.

    Returns:
        The client.

    Raises:
        ConfigurationError: An option is invalid, or a variable is missing; the message names it.
        TypeError: An option is unknown; the message suggests the right name.

    Example:
        >>> with open_client(timeouts=Timeouts(total=60)) as veriff:
        ...     print(veriff.session(session_id).decision())
    """
    check_names("open_client()", options, (*_OWN, *ClientOptions.__annotations__))
    check_function("loop_factory", loop_factory)
    if options.get("http_session") is not None:
        msg = "http_session belongs to the event loop that created it, and a blocking client has its own: leave it out."
        raise ConfigurationError(msg)
    client = client_from(credentials, base_url, options)
    return BlockingClient(client, Portal(client, loop_factory=loop_factory))


@contextmanager
def open_session(
    credentials: Credentials | None = None,
    *,
    base_url: str | None = None,
    loop_factory: Callable[[], AbstractEventLoop] | None = None,
    **options: Unpack[SessionOptions],
) -> Generator[BlockingSession]:
    """Create one session with its own client, which is closed at the end of the block.

    Args:
        credentials: See `open_client`.
        base_url: See `open_client`.
        loop_factory: See `open_client`.
        **options: The options of `VeriffClient` and of `BlockingClient.create_session`.

    Raises:
        ConfigurationError: An option is invalid, or a variable is missing; the message names it.
        TypeError: An option is unknown; the message suggests the right name.
        VeriffError: The session could not be created; see `BlockingClient.create_session`.

    Example:
        >>> with open_session(vendor_data="user-42") as session:
        ...     session.upload(Media("front.jpg", "document-front"))
    """
    client_options, create_options = split_options(_OWN, options)
    with open_client(credentials, base_url=base_url, loop_factory=loop_factory, **client_options) as client:
        yield client.create_session(**create_options)
