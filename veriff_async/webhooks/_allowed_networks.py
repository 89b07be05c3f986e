"""Which addresses webhooks may come from. Pure.

The signature is the proof of origin, an address is not. A list of networks only keeps strangers from reaching the
parser. It fails closed: an address that is missing or cannot be read is not on the list.

Behind a proxy the address of the connection is the proxy's. The proxy appends the sender's address to the
``X-Forwarded-For`` header, to which the sender may have written anything before. So the header counts only if the
connection comes from a trusted proxy. It is read from its end, past trusted proxies: the first other address is the
sender's, and nothing before it can be trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from attrs import frozen

from veriff_async.errors import ConfigurationError
from veriff_async.webhooks._http import header_value

__all__ = ("AllowedNetworks", "Network", "parse_networks")

Network: TypeAlias = str | IPv4Network | IPv6Network
"""A network as text (``"192.0.2.0/27"``, or one address) or as an object of `ipaddress`."""

_FORWARDED: Final = "x-forwarded-for"
_MAX_HOPS: Final = 32


@frozen
class AllowedNetworks:
    """The networks that webhooks may come from, and the proxies whose header is trusted."""

    allowed: tuple[IPv4Network | IPv6Network, ...]
    proxies: tuple[IPv4Network | IPv6Network, ...]

    def allow(self, remote: str | None, headers: Mapping[str, str]) -> bool:
        """Return whether a request may be a webhook.

        Args:
            remote: The address of the connection, as the framework names it.
            headers: The request's headers, names in any case.
        """
        sender = _parse_address(remote or "")
        if sender is not None and _is_in(sender, self.proxies):
            sender = self._sender_behind(sender, headers)
        return sender is not None and _is_in(sender, self.allowed)

    def _sender_behind(
        self, proxy: IPv4Address | IPv6Address, headers: Mapping[str, str]
    ) -> IPv4Address | IPv6Address | None:
        sender: IPv4Address | IPv6Address | None = proxy
        # Bounded: the header may be long, and only its end counts.
        hops = (header_value(headers, _FORWARDED) or "").rsplit(",", _MAX_HOPS)
        for hop in reversed(hops if hops != [""] else []):
            sender = _parse_address(hop)
            if sender is None or not _is_in(sender, self.proxies):
                return sender
        return sender


def parse_networks(allowed: Collection[Network] | None, proxies: Collection[Network]) -> AllowedNetworks | None:
    """Return the list of networks, or ``None`` if every address is allowed.

    Raises:
        ConfigurationError: A network cannot be read, or there are proxies without allowed networks.
    """
    trusted = _parse_networks("trusted_proxies", proxies)
    if allowed is None:
        if trusted:
            msg = "trusted_proxies has no effect without allowed_networks: pass both, or neither."
            raise ConfigurationError(msg)
        return None
    return AllowedNetworks(_parse_networks("allowed_networks", allowed), trusted)


def _parse_networks(name: str, networks: Collection[Network]) -> tuple[IPv4Network | IPv6Network, ...]:
    msg = f'{name} must be a list of networks, for example ["192.0.2.0/27", "192.0.2.7"].'
    if isinstance(networks, str | bytes | Mapping) or not isinstance(networks, Collection):
        raise ConfigurationError(msg)
    # ipaddress accepts integers too, which are more likely a mistake.
    if not all(isinstance(network, str | IPv4Network | IPv6Network) for network in networks):
        raise ConfigurationError(msg)
    try:
        return tuple(ip_network(network) for network in networks)
    except (ValueError, TypeError):
        problem = ConfigurationError(msg)
    raise problem


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, with or without a port, brackets, quotes or a zone."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # Dual-stack sockets report IPv4 peers as ::ffff:192.0.2.1.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _is_in(address: IPv4Address | IPv6Address, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    return any(address in network for network in networks)
