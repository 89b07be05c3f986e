"""The log of our aiohttp servers, without what strangers can write into it.

aiohttp logs a traceback for each request that is not HTTP. Its text contains bytes of the request, which may be a
secret or personal data, and a client that speaks TLS to a port without it would fill the terminal.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ("get_server_logger",)

# Mistakes of clients, which get a response with status 400.
_MALFORMED = (HttpProcessingError, web.RequestPayloadError)


def get_server_logger(name: str) -> logging.Logger:
    """Return the logger of a server, which omits malformed requests."""
    logger = logging.getLogger(name)
    # Adding it twice has no effect.
    logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, _MALFORMED)
