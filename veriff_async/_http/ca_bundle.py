"""Certificate authorities of the user's own, trusted in addition to those of the system."""

from __future__ import annotations

import ssl
from os import fspath
from typing import TYPE_CHECKING, Final

from veriff_async._protocol.arguments import type_name
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

__all__ = ("CA_BUNDLE_VARIABLE", "ca_bundle_from", "create_context", "load_ca_bundle")

CA_BUNDLE_VARIABLE: Final = "VERIFF_CA_BUNDLE"


def ca_bundle_from(environ: Mapping[str, str]) -> str | None:
    """Return the value of ``VERIFF_CA_BUNDLE``, or ``None`` if it is not set."""
    return environ.get(CA_BUNDLE_VARIABLE, "").strip() or None


def create_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context for clients, with the authorities of a file if one is given. Blocking.

    Raises:
        ConfigurationError: See `load_ca_bundle`.
    """
    return ssl.create_default_context() if ca_bundle is None else load_ca_bundle(ca_bundle)


def load_ca_bundle(path: str | PathLike[str]) -> ssl.SSLContext:
    """Return a context for clients that trusts the authorities of the system and those in a PEM file. Blocking.

    Raises:
        ConfigurationError: The file cannot be read, or contains no certificate.
    """
    remedy = f"pass a PEM file with the certificates of authorities (ca_bundle, {CA_BUNDLE_VARIABLE})"
    try:
        name = fspath(path)
        # OpenSSL's own functions accept bytes in another encoding than the other paths of this library.
        if not isinstance(name, str):
            raise TypeError  # noqa: TRY301  handled with the other wrong types
        context = ssl.create_default_context()
        # aiohttp sets it too; some servers choose HTTP/2 otherwise.
        context.set_alpn_protocols(["http/1.1"])
        context.load_verify_locations(cafile=name)
    except TypeError:
        msg = f"ca_bundle must be a path, not {type_name(path)}: {remedy}."
        raise ConfigurationError(msg) from None
    except ssl.SSLError:
        problem = "contains no usable certificate"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        problem = f"cannot be read ({reason or type(error).__name__})"
    else:
        return context
    msg = f"The file of ca_bundle {problem}: {remedy}."
    raise ConfigurationError(msg)
