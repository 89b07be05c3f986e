"""The headers that middleware may add to a request."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.headers import API_KEY, AUTH_CLIENT, HMAC_SIGNATURE, LEGACY_SIGNATURE
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("AddedHeaders",)

# Veriff refuses a request whose signature headers are wrong, and a wrong length or coding breaks the connection. Parts
# and validators of files (RFC 9110, sections 13 and 14) would replace the whole file that a download must be.
_RESERVED: Final = frozenset(
    {
        *(name.lower() for name in (API_KEY, AUTH_CLIENT, HMAC_SIGNATURE, LEGACY_SIGNATURE)),
        "accept",
        "accept-encoding",
        "connection",
        "expect",
        "host",
        "keep-alive",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED_PREFIXES: Final = ("content-", "if-", "proxy-", "vrf-")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}", re.ASCII)
_VALUE: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]{0,8000}[\x21-\x7e])?)?", re.ASCII)
_USER_AGENT: Final = "User-Agent"


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


class AddedHeaders(MutableMapping[str, str]):
    """The headers that middleware adds to the requests of one call; names in any case.

    Setting one raises `ConfigurationError` if the library sets the header itself (signatures, and those that describe
    the body or the connection), or if name or value are not those of a header.
    """

    __slots__ = ("_headers",)

    def __init__(self) -> None:
        """Start without a header."""
        self._headers: dict[str, tuple[str, str]] = {}

    def __getitem__(self, name: str) -> str:
        """Return the value of a header."""
        return self._headers[name.lower()][1]

    def __setitem__(self, name: str, value: str) -> None:
        """Add a header, or replace one that was added before."""
        if not _is_text(name, _NAME):
            msg = "A middleware cannot add this header: give a name of letters, digits and hyphens."
            raise ConfigurationError(msg)
        lower = name.lower()
        if lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
            msg = f"A middleware cannot add {name}: the library sets it itself, so remove it from the middleware."
            raise ConfigurationError(msg)
        if not _is_text(value, _VALUE):
            msg = (
                f"A middleware cannot add {name}: give a text of printable ASCII characters as its value, up to 8,000 "
                "and without blanks around them."
            )
            raise ConfigurationError(msg)
        # In the spelling of the library, whose own value it replaces.
        self._headers[lower] = (_USER_AGENT if lower == "user-agent" else name, value)

    def __delitem__(self, name: str) -> None:
        """Remove a header that was added before."""
        del self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter([name for name, _ in self._headers.values()])

    def __len__(self) -> int:
        """Return the number of headers."""
        return len(self._headers)

    def __repr__(self) -> str:
        """Show the names only: a value may be a token of yours."""
        return f"<AddedHeaders {', '.join(self) or 'none'}>"
