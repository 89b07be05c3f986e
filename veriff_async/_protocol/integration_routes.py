"""Which integration a message belongs to, by its headers alone. Pure; the signature is verified afterwards.

Veriff sends the API key with every webhook (https://devdocs.veriff.com/apidocs/veriff-public-api-guides). It documents
``VRF-INTEGRATION-ID`` for webhooks too, and needs it in requests only for an API key that several integrations share.
Neither header is signed: the signature covers the body. So the secrets are what separates integrations: a copy of a
webhook with other headers is refused by every integration that does not have the secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from veriff_async._protocol.authenticity import parse_auth_headers
from veriff_async.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from veriff_async.credentials import Credentials

__all__ = ("IntegrationRoutes", "check_separation", "make_routes")


@frozen
class IntegrationRoutes:
    """The integrations by API key.

    Attributes:
        credentials: The credentials from which the routes were made, by name.
        names: The names and integration ids for each API key, keys and ids in lower case.
    """

    credentials: Mapping[str, Credentials]
    names: Mapping[str, tuple[tuple[str, str | None], ...]]

    def find(self, headers: Mapping[str, str]) -> str | None:
        """Return the name of the integration that the headers select, or ``None`` for any other message.

        A key that one integration has alone selects it, whether or not the message names an integration.

        Raises:
            InvalidArgumentError: The headers are not a mapping of str to str.
        """
        auth = parse_auth_headers(headers)
        if auth.api_key is None or auth.disagrees:
            return None
        # A search by hash: the time that it takes does not depend on how much of a guessed key is right.
        found = self.names.get(auth.api_key.lower(), ())
        if len(found) > 1:
            wanted = None if auth.integration_id is None else auth.integration_id.lower()
            found = tuple(entry for entry in found if entry[1] is not None and entry[1] == wanted)
        return found[0][0] if len(found) == 1 else None


def make_routes(credentials: Mapping[str, Credentials]) -> IntegrationRoutes:
    """Return the routes to integrations with these credentials."""
    names: dict[str, tuple[tuple[str, str | None], ...]] = {}
    for name, each in credentials.items():
        key, integration_id = each.api_key.lower(), each.integration_id
        names[key] = (*names.get(key, ()), (name, None if integration_id is None else integration_id.lower()))
    return IntegrationRoutes(dict(credentials), names)


def check_separation(credentials: Mapping[str, Credentials], *, allow_sharing: bool) -> None:
    """Check that each message can belong to one of the integrations only.

    Args:
        credentials: The credentials by the name of the integration.
        allow_sharing: Whether integrations may have a secret in common.

    Raises:
        ConfigurationError: Two integrations have the same API key and not two integration ids, or share a secret.
    """
    ids_by_key: dict[str, dict[str | None, str]] = {}
    by_secret: dict[str, str] = {}
    for name, each in credentials.items():
        integration_id = None if each.integration_id is None else each.integration_id.lower()
        ids = ids_by_key.setdefault(each.api_key.lower(), {})
        if ids and (integration_id is None or None in ids or integration_id in ids):
            other = next(iter(ids.values()))
            msg = f"Integrations {other!r} and {name!r} have one API key: give each its own integration_id."
            raise ConfigurationError(msg)
        ids[integration_id] = name
        for secret in () if allow_sharing else each.secrets:
            other = by_secret.setdefault(secret, name)
            if other != name:
                msg = (
                    f"Integrations {other!r} and {name!r} have a secret in common, so that a webhook of one could be "
                    "sent to the other: create another secret, or pass allow_sharing=True if both have one owner."
                )
                raise ConfigurationError(msg)
