"""Addresses of Veriff's hosts: which ones are accepted, which may be plain http, and which ones Veriff switches off.

An error never repeats an address: it may hold a password by mistake.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias, cast

from yarl import URL

from veriff_async.errors import ConfigurationError

__all__ = (
    "BASE_URL_VARIABLE",
    "INSECURE_HOSTS_VARIABLE",
    "LOCAL_SYNC",
    "DeprecatedHostWarning",
    "Host",
    "base_url_from",
    "deprecation",
    "hosts_of",
    "insecure_host",
    "insecure_hosts",
    "insecure_hosts_from",
    "is_deprecated",
    "parse_root",
)

Host: TypeAlias = Literal["api", "feedback", "sync"]

BASE_URL_VARIABLE: Final = "VERIFF_BASE_URL"
INSECURE_HOSTS_VARIABLE: Final = "VERIFF_ALLOW_INSECURE_HOSTS"

LOCAL_SYNC: Final = "/sync"
"""Path below which a local Veriff has the synchronous host, whose own paths are those of the API."""

# Veriff documents these two hosts; the base URL differs for each integration. Whether the synchronous host changes with
# the other hosts is not documented (see `deprecation`).
_FEEDBACK_URL: Final = "https://feedback.api.veriff.com"
_SYNC_URL: Final = "https://sync-api.veriff.me"

_PORTAL: Final = "the integration's API Keys page in the Customer Portal"
_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)
_OLD_HOST: Final = "stationapi.veriff.com"
_OLD_DOMAIN: Final = "veriff.me"
_DOMAINS: Final = ("veriff.com", "veriff.me")
_LAST_DAY: Final = "9 December 2026"


class DeprecatedHostWarning(UserWarning):
    """The client's `base_url` is one of the API hosts that Veriff replaces on 9 December 2026.

    Calls may fail from that day on. The API Keys page of the integration in Veriff's Customer Portal shows the new base
    URL: set it as ``VERIFF_BASE_URL`` or pass it as `base_url`. A client gives this warning once, when it is created.

    The date is from a banner on https://devdocs.veriff.com/docs/mexican-registries (read in November 2026). Whether old
    hosts redirect afterwards, and which new host replaces which old one, is not known.
    """


def parse_root(base_url: str, *, name: str = "base_url", allow_insecure: Collection[str] = ()) -> str:
    """Return a base URL without version and trailing slash.

    Args:
        base_url: The address.
        name: The name of the option, for the error.
        allow_insecure: Host names that plain http is allowed for, see `insecure_hosts`.

    Raises:
        ConfigurationError: It is not an absolute http(s) URL, has a user name, password, query or fragment, or is plain
            http to another machine, which would send the API key and the pictures unencrypted.
    """
    if not isinstance(cast("object", base_url), str):
        raise _refuse(name, f"must be text, not {type(base_url).__name__}: pass the URL from {_PORTAL}")
    # Searched in the text, because a password with "/" or "#" moves the "@" out of the authority.
    if "@" in base_url:
        raise _refuse(name, "must not contain a user name or password: pass the credentials as Credentials")
    url = _parse(base_url)
    if url is None or not url.host:
        raise _refuse(name, f"is not an absolute http(s) URL: pass the base URL from {_PORTAL}, https://...")
    if url.raw_query_string or url.raw_fragment or "?" in base_url or "#" in base_url:
        raise _refuse(name, f"must not have a query or fragment: pass the base URL from {_PORTAL} as it is")
    host = _name_of(url)
    if url.scheme == "http" and not _is_loopback(host) and host not in allow_insecure:
        remedy = "" if _is_veriff(host) else f", or add {host!r} to allow_insecure_hosts ({INSECURE_HOSTS_VARIABLE})"
        raise _refuse(name, f"is plain http, not https, which is allowed for this machine only: use https{remedy}")
    # A base URL is accepted with and without the version; the paths of calls begin with it.
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def hosts_of(
    base_url: str, *, feedback_url: str | None, sync_url: str | None, allow_insecure: Collection[str] = ()
) -> dict[Host, str]:
    """Return the addresses of Veriff's three hosts.

    With a base URL of this machine, or of an allowed insecure host, the other two default to that host as well: a test
    must never reach Veriff itself.

    Raises:
        ConfigurationError: One of them cannot be used; see `parse_root`.
    """
    root = parse_root(base_url, allow_insecure=allow_insecure)
    # Before the other hosts: their defaults depend on it.
    local = _is_loopback(_name_of(URL(root))) or insecure_host(root) is not None
    feedback, sync = (root, root + LOCAL_SYNC) if local else (_FEEDBACK_URL, _SYNC_URL)
    return {
        "api": root,
        "feedback": parse_root(feedback_url or feedback, name="feedback_url", allow_insecure=allow_insecure),
        "sync": parse_root(sync_url or sync, name="sync_url", allow_insecure=allow_insecure),
    }


def base_url_from(environ: Mapping[str, str]) -> str:
    """Return the value of ``VERIFF_BASE_URL``.

    Raises:
        ConfigurationError: It is not set.
    """
    base_url = environ.get(BASE_URL_VARIABLE, "").strip()
    if not base_url:
        msg = f"{BASE_URL_VARIABLE} is not set: the integration's API Keys page in the Customer Portal shows its value."
        raise ConfigurationError(msg)
    return base_url


def insecure_hosts(names: Collection[str]) -> frozenset[str]:
    """Check and normalise the value of ``allow_insecure_hosts``: names of hosts, each written in full.

    Raises:
        ConfigurationError: It is a single text, or a name is not a host name, is a pattern, or is Veriff's own.
    """
    option = "allow_insecure_hosts"
    if isinstance(names, str | bytes | Mapping) or not isinstance(cast("object", names), Collection):
        raise _refuse(option, 'must be a list of host names, for example ["veriff-sandbox"]')
    allowed: set[str] = set()
    for name in names:
        folded = name.strip().lower().rstrip(".") if isinstance(cast("object", name), str) else ""
        if not _HOST_NAME.fullmatch(folded) and not _is_address(folded):
            remedy = 'takes host names in full, without scheme, port, path or "*", for example "veriff-sandbox"'
            raise _refuse(option, remedy)
        if _is_veriff(folded):
            raise _refuse(option, "must not name a host of Veriff: it is reached over https only")
        # yarl returns an IPv6 address without its brackets.
        allowed.add(folded.strip("[]"))
    return frozenset(allowed)


def insecure_hosts_from(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the host names in ``VERIFF_ALLOW_INSECURE_HOSTS``, which separates them by commas."""
    return tuple(name.strip() for name in environ.get(INSECURE_HOSTS_VARIABLE, "").split(",") if name.strip())


def insecure_host(root: str) -> str | None:
    """Return the host of an address that is reached unencrypted on another machine, or ``None``."""
    url = URL(root)
    host = _name_of(url)
    return host if url.scheme == "http" and not _is_loopback(host) else None


def is_deprecated(root: str) -> bool:
    """Return whether an address is on one of the API hosts that Veriff replaces on 9 December 2026."""
    host = _name_of(URL(root))
    return host == _OLD_HOST or _is_below(host, _OLD_DOMAIN)


def deprecation(root: str) -> str | None:
    """Return the sentence that warns about an old API host, or ``None`` for any other address.

    The date is from a banner on https://devdocs.veriff.com/docs/mexican-registries. The old hosts are those seen in
    public code; which new host replaces which of them is not documented, so the remedy is the Customer Portal.
    """
    if not is_deprecated(root):
        return None
    return (
        f"The API host {_name_of(URL(root))} is an old one, and Veriff changes its API hosts on {_LAST_DAY}: take the "
        f"new base URL from {_PORTAL}, and set it as VERIFF_BASE_URL (or base_url) before that day."
    )


def _is_veriff(host: str) -> bool:
    return any(_is_below(host, domain) for domain in _DOMAINS)


def _parse(text: str) -> URL | None:
    # yarl accepts white space and control characters in a host; no server does.
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        url = URL(text)
    except ValueError:
        return None
    host = url.host or ""
    is_host = _HOST_NAME.fullmatch(_name_of(url)) is not None or _is_address(host)
    return url if url.scheme in {"http", "https"} and is_host else None


def _name_of(url: URL) -> str:
    # As written: yarl decodes the letters of an international name (xn--...), which a host name cannot contain.
    return (url.raw_host or "").lower().rstrip(".")


def _is_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _refuse(name: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{name} {remedy}.")
