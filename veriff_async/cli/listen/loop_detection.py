"""Detects forwarding loops, in two ways.

`is_own_address` compares names and addresses before anything is forwarded. It cannot see through a tunnel, a reverse
proxy or a published port of a container, so each forwarded request also carries a token of this process, `ForwardMark`,
by which the receiver recognises it.
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

__all__ = ("ForwardMark", "is_own_address")

_HEADER: Final = "x-veriff-async-forwarded"

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@frozen
class ForwardMark:
    """The header with which a process marks the requests that it forwards."""

    token: str = field(factory=lambda: secrets.token_hex(8))

    def is_present(self, headers: Mapping[str, str]) -> bool:
        """Return whether this process has forwarded the request."""
        value = header_value(headers, _HEADER) or ""
        return self.token in {token.strip() for token in value.split(",")}

    def add_to(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return headers with this mark added to those of other processes."""
        others = [value for name, value in headers if name.lower() == _HEADER]
        kept = [(name, value) for name, value in headers if name.lower() != _HEADER]
        return [*kept, (_HEADER, ", ".join([*others, self.token]))]


def is_own_address(url: str, *, host: str, port: int, path: str) -> bool:
    """Return whether a URL is the address of a receiver on this machine. Blocking: it resolves names."""
    try:
        target = URL(url)
    except ValueError:
        return False
    # Before names are resolved, which may take seconds.
    if target.port != port or unquote(target.path).rstrip("/") != unquote(path).rstrip("/"):
        return False
    name = unquote(target.raw_host or "")
    if name.rstrip(".").lower() == host.rstrip(".").lower():
        return True
    own, targets = _resolve(host), _resolve(name)
    if any(address.is_unspecified for address in own):
        return any(address.is_unspecified or _is_local(address) for address in targets)
    is_loopback_server = any(address.is_loopback for address in own)
    # A connection to 0.0.0.0 or :: arrives at a loopback address. All loopback addresses count as one.
    is_loopback_target = any(address.is_loopback or address.is_unspecified for address in targets)
    return bool(own & targets) or (is_loopback_server and is_loopback_target)


def _resolve(name: str) -> set[_Address]:
    """Return the addresses of a name, IPv4-mapped ones as IPv4; empty if the name is unknown."""
    try:
        entries = socket.getaddrinfo(name.rstrip(".") or name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries}
    return {getattr(address, "ipv4_mapped", None) or address for address in addresses}


def _is_local(address: _Address) -> bool:
    """Return whether an address belongs to this machine: a socket can be bound to such an address only."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP version
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
