"""The headers of a response that may be shown, and the id under which the server has logged the request.

Veriff documents no request id, and which header holds one is a guess: the names are those of common servers, proxies
and content networks. Veriff's own responses repeat the API key and carry a signature, and a proxy may add cookies, so
only names from a list are shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("find_request_id", "harmless_headers")

# In the order of preference: ids of the application before those of proxies on the way.
_REQUEST_IDS: Final = (
    "x-request-id",
    "request-id",
    "x-correlation-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-amz-cf-id",
    "cf-ray",
)
_ALL_REQUEST_IDS: Final = frozenset(_REQUEST_IDS)
_HARMLESS: Final = frozenset(
    {
        *_REQUEST_IDS,
        "age",
        "allow",
        "cache-control",
        "content-encoding",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "retry-after",
        "server",
        "transfer-encoding",
        "vary",
        "via",
        "x-cache",
    }
)
# The draft of the IETF (draft-ietf-httpapi-ratelimit-headers), and the older names that most services use.
_RATE_LIMITS: Final = ("ratelimit", "x-ratelimit")
_VALUE: Final = re.compile(r"[\x20-\x7e\t]{0,1000}", re.ASCII)
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)


def find_request_id(headers: Mapping[str, str] | None) -> str | None:
    """Return the id that a server has given to the request, or ``None``.

    Args:
        headers: The headers of the response, with names in any case; ``None`` without a response.
    """
    # A dict, as `harmless_headers` returns, has names in one case only, so that one look replaces seven.
    if headers is None or (headers.__class__ is dict and _ALL_REQUEST_IDS.isdisjoint(headers)):
        return None
    for name in _REQUEST_IDS:
        value = headers.get(name)
        # An id is written to logs, where a line break or a very long text could forge or flood entries.
        if value is not None and _ID.fullmatch(value):
            return value
    return None


def harmless_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers without credentials, cookies and unknown ones; the names are in lower case.

    Of several headers with one name the first counts, as in `find_request_id`. A value that is long or not printable
    ASCII is left out: programs log headers.
    """
    shown: dict[str, str] = {}
    for name, value in () if headers is None else headers.items():
        lower = name.lower()
        if (lower in _HARMLESS or lower.startswith(_RATE_LIMITS)) and _VALUE.fullmatch(value):
            shown.setdefault(lower, value)
    return shown
