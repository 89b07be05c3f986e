"""Whether an address leads back to this receiver, under any spelling, and requests that came back all the same.

Names and addresses are compared before anything is forwarded. That cannot see a tunnel, a reverse proxy or a port of a
container, so each forwarded request also carries a mark of this process, by which it is recognised when it returns.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from attrs import field, frozen
from yarl import URL

from veriff_async.webhooks._http import header_value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Mark", "leads_back")

_HEADER: Final = "x-veriff-async-forwarded"

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class Mark:
    """The mark of one process on the requests that it forwards."""

    token: str = field(factory=lambda: secrets.token_hex(8))

    def is_on(self, headers: Mapping[str, str]) -> bool:
        """Return whether a request was forwarded by this process before."""
        found = header_value(headers, _HEADER) or ""
        return self.token in {token.strip() for token in found.split(",")}

    def put_on(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return headers with the mark, beside those of other processes that forwarded the request."""
        others = [value for name, value in headers if name.lower() == _HEADER]
        kept = [(name, value) for name, value in headers if name.lower() != _HEADER]
        return [*kept, (_HEADER, ", ".join([*others, self.token]))]


def leads_back(url: str, *, host: str, port: int, path: str) -> bool:
    """Return whether an address is that of a receiver on this machine. Blocking: names are resolved.

    Args:
        url: The address.
        host: Name or address that the receiver listens on.
        port: Its port.
        path: Its path.
    """
    try:
        there = URL(url)
    except ValueError:
        return False
    if there.port != port or unquote(there.path).rstrip("/") != unquote(path).rstrip("/"):
        return False
    name = unquote(there.raw_host or "")
    if name.rstrip(".").lower() == host.rstrip(".").lower():
        return True
    own, targets = _resolved(host), _resolved(name)
    if any(address.is_unspecified for address in own):
        return any(address.is_unspecified or _is_of_this_machine(address) for address in targets)
    is_inner = any(address.is_loopback for address in own)
    # A connection to 0.0.0.0 or :: arrives at a loopback address. All loopback addresses count as one.
    inner = any(address.is_loopback or address.is_unspecified for address in targets)
    return bool(own & targets) or (is_inner and inner)


def _resolved(name: str) -> set[_Address]:
    """Return the addresses of a name, IPv4 ones that are written as IPv6 as IPv4; none if it is unknown."""
    try:
        found = socket.getaddrinfo(name.rstrip(".") or name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def _is_of_this_machine(address: _Address) -> bool:
    """Return whether an address is one of this machine's: only then a socket can be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP version
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
