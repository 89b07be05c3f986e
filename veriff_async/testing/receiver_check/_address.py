"""Which hosts belong to this machine."""

from __future__ import annotations

from ipaddress import ip_address

__all__ = ("is_local",)


def is_local(host: str) -> bool:
    """Return whether a host is this machine, by its name or address alone."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
