"""The address of a server: how it listens there, and the environment variables with which clients find it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async.client import BASE_URL_VARIABLE, FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE
from veriff_async.credentials import API_KEY_VARIABLE, INTEGRATION_VARIABLE, SECRET_VARIABLE
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext

    from veriff_async.credentials import Credentials

__all__ = ("build_environ", "build_url_variables", "listen")


async def listen(runner: web.BaseRunner, host: str, port: int, *, name: str, tls: SSLContext | None = None) -> str:
    """Let a server accept connections, and return its URL for clients.

    Args:
        runner: The server, which was set up.
        host: Address to listen on.
        port: Port; 0 selects a free one.
        name: Who listens, for the error.
        tls: Serves https instead of http.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeError:  # of the encoding of host names, for example for one that is too long
        problem = "not a host name"
    else:
        # A server on every address is reached by loopback; clients cannot connect to 0.0.0.0 on every platform.
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        scheme = "http" if tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
    msg = f"The {name} cannot listen on {host} port {port} ({problem}): pass another host or port."
    raise ConfigurationError(msg)


def build_url_variables(base_url: str) -> dict[str, str]:
    """Return the variables with addresses that `VeriffClient.from_env` reads."""
    return {
        BASE_URL_VARIABLE: base_url,
        FEEDBACK_URL_VARIABLE: base_url,
        SYNC_URL_VARIABLE: base_url + LOCAL_SYNC,
    }


def build_environ(base_url: str, credentials: Credentials) -> dict[str, str]:
    """Return all variables that `VeriffClient.from_env` reads."""
    variables = {
        API_KEY_VARIABLE: credentials.api_key,
        SECRET_VARIABLE: ",".join(credentials.secrets),
        **build_url_variables(base_url),
    }
    if credentials.integration_id is not None:
        variables[INTEGRATION_VARIABLE] = credentials.integration_id
    return variables
