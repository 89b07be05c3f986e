"""Clients and sessions for scripts, which the environment configures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from os import environ
from typing import TYPE_CHECKING, Unpack

from veriff_async._client.options import ClientOptions, SessionOptions, optional_variables, split_options
from veriff_async._event_loop import require_asyncio
from veriff_async._protocol.base_url import base_url_from
from veriff_async.client import VeriffClient
from veriff_async.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from veriff_async.session import VerificationSession

__all__ = ("client_from", "open_session")


@asynccontextmanager
async def open_session(
    credentials: Credentials | None = None, *, base_url: str | None = None, **options: Unpack[SessionOptions]
) -> AsyncGenerator[VerificationSession]:
    """Create one session with its own client, which is closed at the end of the block.

    Args:
        credentials: API key and secrets; from the environment by default.
        base_url: The integration's base URL; ``VERIFF_BASE_URL`` by default.
        **options: The options of `VeriffClient` and of `VeriffClient.create_session`.

    Raises:
        ConfigurationError: An option is invalid, or a variable is missing; the message names it.
        TypeError: An option is unknown; the message suggests the right name.
        VeriffError: The session could not be created; see `VeriffClient.create_session`.

    Example:
        >>> async with open_session(vendor_data="user-42") as session:
        ...     await session.upload(Media("front.jpg", "document-front"))
    """
    require_asyncio()
    client_options, create_options = split_options(("credentials", "base_url"), options)
    async with client_from(credentials, base_url, client_options) as client:
        yield await client.create_session(**create_options)


def client_from(credentials: Credentials | None, base_url: str | None, options: ClientOptions) -> VeriffClient:
    """Return a client for which the environment completes the arguments.

    Raises:
        ConfigurationError: A variable is missing, or an option is invalid; the message names it.
    """
    credentials = credentials or Credentials.from_env()
    others = optional_variables(environ) | options
    return VeriffClient(credentials, base_url=base_url or base_url_from(environ), **others)
