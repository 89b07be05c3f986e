"""Credentials of an integration: API key, shared secrets, integration id."""

from __future__ import annotations

from collections.abc import Mapping
from os import environ as process_environment
from typing import TYPE_CHECKING, Final, Self, cast

from attrs import Attribute, evolve, field, frozen
from attrs.validators import optional

from veriff_async._protocol.arguments import describe_value, type_name
from veriff_async._protocol.signing import Signer, Verifier, sign, verify
from veriff_async.errors import ConfigurationError
from veriff_async.models.base import WithoutJson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

__all__ = (
    "API_KEY_VARIABLE",
    "INTEGRATION_VARIABLE",
    "SECRET_VARIABLE",
    "Credentials",
    "environment_of",
    "variable_of",
)

_PREFIX: Final = "VERIFF_"

API_KEY_VARIABLE: Final = "VERIFF_API_KEY"
SECRET_VARIABLE: Final = "VERIFF_SHARED_SECRET"  # noqa: S105  the variable's name
INTEGRATION_VARIABLE: Final = "VERIFF_INTEGRATION_ID"

_MAX_SECRETS: Final = 5  # documented: up to five shared secret keys live at once


def environment_of(environ: object) -> Mapping[str, str]:
    """Return the given variables, or those of the process.

    Raises:
        ConfigurationError: `environ` is not a mapping.
    """
    if environ is None:
        return process_environment
    if isinstance(environ, Mapping):
        return cast("Mapping[str, str]", environ)
    msg = f"environ must be a mapping of names to values, not {type_name(environ)}: leave it out for os.environ."
    raise ConfigurationError(msg)


def variable_of(variable: str, integration: str | None) -> str:
    """Return the name of a variable for one of several integrations, for example ``VERIFF_SHOP_API_KEY``.

    Raises:
        ConfigurationError: The name of the integration cannot be part of a variable's name.
    """
    if integration is None:
        return variable
    given: object = integration
    name = given.upper().replace("-", "_") if isinstance(given, str) else ""
    if not (name.isascii() and name.isidentifier()):
        msg = f'integration is {describe_value(given)}: use ASCII letters, digits, - and _, as in "shop".'
        raise ConfigurationError(msg)
    return variable.replace(_PREFIX, f"{_PREFIX}{name}_", 1)


def _check_text(_instance: object, attribute: Attribute[str], value: object) -> None:
    _check_printable(attribute.name.replace("_", " ").replace("api", "API"), value)


def _check_printable(name: str, value: object) -> None:
    """Reject values that an HTTP header cannot contain, such as the newline at the end of a file with a secret."""
    if not isinstance(value, str) or not value:
        problem = "is empty" if isinstance(value, str) else f"must be a str, not {type_name(value)}"
        msg = f"The {name} {problem}: copy it from the API Keys page of the integration in the Customer Portal."
        raise ConfigurationError(msg)
    if not value.isprintable() or value != value.strip():
        msg = f"The {name} has white space or a control character around or in it: copy it again without them."
        raise ConfigurationError(msg)


def _check_previous_secrets(
    _instance: object, _attribute: Attribute[tuple[str, ...]], secrets: tuple[str, ...]
) -> None:
    if len(secrets) >= _MAX_SECRETS:
        msg = f"There are more than {_MAX_SECRETS} secrets: leave out those that the Customer Portal has deleted."
        raise ConfigurationError(msg)
    for secret in secrets:
        _check_printable("previous secret", secret)


def _to_tuple(secrets: Iterable[str]) -> tuple[str, ...]:
    if isinstance(secrets, str):
        msg = "previous_secrets must be a tuple of secrets, not a single text: pass (secret,)."
        raise ConfigurationError(msg)
    return tuple(secrets)


@frozen
class Credentials(WithoutJson):
    """The API key and shared secrets of one integration.

    Requests are signed with `shared_secret`. Webhooks and responses are verified with any of the secrets, so that
    secrets can be rotated without an interruption. The repr shows nothing secret.

    Args:
        api_key: The API key (a UUID) from the integration's API Keys page.
        shared_secret: The shared secret key that signs requests.
        previous_secrets: Other live secrets, newest first; Veriff keeps up to five in all.
        integration_id: Needed only for an API key that several integrations share; by default it is not sent.

    Raises:
        ConfigurationError: A value is empty, has white space around it, or there are more than five secrets.

    See https://devdocs.veriff.com/apidocs/veriff-public-api-guides.
    """

    api_key: str = field(repr=False, validator=_check_text)
    shared_secret: str = field(repr=False, validator=_check_text)
    previous_secrets: tuple[str, ...] = field(
        default=(), repr=False, kw_only=True, converter=_to_tuple, validator=_check_previous_secrets
    )
    integration_id: str | None = field(default=None, kw_only=True, validator=optional(_check_text))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, integration: str | None = None) -> Self:
        """Read ``VERIFF_API_KEY``, ``VERIFF_SHARED_SECRET`` (a comma list, newest first) and ``VERIFF_INTEGRATION_ID``.

        Args:
            environ: Variables to use instead of the environment of the process.
            integration: Your name of one of several integrations, which the names of its variables contain: for
                ``"shop"``, ``VERIFF_SHOP_API_KEY``, ``VERIFF_SHOP_SHARED_SECRET`` and ``VERIFF_SHOP_INTEGRATION_ID``.

        Raises:
            ConfigurationError: A variable is missing or invalid; the message names it. Or the name of the integration
                cannot be part of a variable's name.
        """
        environment = environment_of(environ)
        key_variable, secret_variable, id_variable = (
            variable_of(variable, integration) for variable in (API_KEY_VARIABLE, SECRET_VARIABLE, INTEGRATION_VARIABLE)
        )
        for name in (key_variable, secret_variable):
            if not environment.get(name, "").strip():
                msg = f"{name} is not set: the integration's API Keys page in the Customer Portal shows its value."
                raise ConfigurationError(msg)
        secrets = [secret.strip() for secret in environment[secret_variable].split(",") if secret.strip()]
        if not secrets:
            msg = f"{secret_variable} holds no secret: write them in one line, separated by commas, newest first."
            raise ConfigurationError(msg)
        return cls(
            environment[key_variable].strip(),
            secrets[0],
            previous_secrets=secrets[1:],
            integration_id=environment.get(id_variable, "").strip() or None,
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """All live secrets, the signing one first."""
        return (self.shared_secret, *self.previous_secrets)

    def with_rotated_secret(self, new_secret: str) -> Self:
        """Return a copy that signs with a new secret and still verifies with all others.

        Raises:
            ConfigurationError: The secret is empty or has white space around it, or it would be the sixth.
        """
        # A secret that is already known moves to the front, so that it is not counted twice.
        others = tuple(secret for secret in self.secrets if secret != new_secret)
        return evolve(self, shared_secret=new_secret, previous_secrets=others)

    def with_signing_secret(self, index: int) -> Self:
        """Return a copy that signs with another of its secrets.

        Args:
            index: The index of that secret in `secrets`, as `verify` returns it.

        Raises:
            ConfigurationError: No secret has this index.
        """
        return self.with_rotated_secret(self._secret_at(index))

    def without_secret(self, index: int) -> Self:
        """Return a copy without one secret, once it is deleted in the Customer Portal.

        Args:
            index: The index of that secret in `secrets`.

        Raises:
            ConfigurationError: No secret has this index, or it is the only secret.
        """
        removed = self._secret_at(index)
        if len(self.secrets) == 1:
            msg = "The only secret cannot be removed: add its successor first, with with_rotated_secret()."
            raise ConfigurationError(msg)
        first, *others = [secret for secret in self.secrets if secret != removed]
        return evolve(self, shared_secret=first, previous_secrets=tuple(others))

    def _secret_at(self, index: int) -> str:
        # A bool is an int too, and True must not select the second secret.
        if type(index) is not int or not 0 <= index < len(self.secrets):
            last = len(self.secrets) - 1
            valid = f"an index from 0 to {last}" if last else "index 0, since there is only one secret"
            msg = f"No secret has index {describe_value(index)}: pass {valid}. The secret with index 0 signs."
            raise ConfigurationError(msg)
        return self.secrets[index]

    def sign(self, payload: Buffer) -> str:
        """Sign a whole payload with the shared secret.

        Raises:
            ConfigurationError: The payload is not bytes.
        """
        return sign(self.shared_secret, payload)

    def signer(self) -> Signer:
        """Return a signer for a payload that arrives in chunks."""
        return Signer(self.shared_secret)

    def verifier(self) -> Verifier:
        """Return a verifier for a payload that arrives in chunks."""
        return Verifier(self.secrets)

    def verify(self, payload: Buffer, signature: str) -> int | None:
        """Return the index in `secrets` of the secret that signed a payload, or ``None`` if none of them did."""
        return verify(payload, signature, self.secrets)
