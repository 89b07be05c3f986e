"""Checks of arguments. Pure.

The sandbox checks values when a test passes them. An error that occurs later, when a webhook is serialised, would leave
a session half changed and would be raised far from its cause.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar, cast
from urllib.parse import urlsplit

from veriff_async._protocol import arguments
from veriff_async._protocol.json.encode import dump_json
from veriff_async._protocol.option_names import suggest
from veriff_async.errors import ConfigurationError, InvalidArgumentError

if TYPE_CHECKING:
    from attrs import Attribute, AttrsInstance

__all__ = (
    "LONGEST",
    "check_header",
    "check_host",
    "check_mapping",
    "check_members",
    "check_model",
    "check_number",
    "check_origin",
    "check_text",
    "check_url",
    "check_word",
    "flag",
    "number",
    "one_of",
)

_T = TypeVar("_T")
_Model = TypeVar("_Model", bound="AttrsInstance")


LONGEST: Final = 1e9
"""Longest duration in seconds, some thirty years: added to any time of a clock, it stays within datetime's range."""

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_IN_URL: Final = re.compile(r"[\x00-\x20\x7f]")


def check_number(  # noqa: PLR0913  a range has two ends, which belong to it or not
    name: str,
    value: object,
    *,
    lowest: float = 0,
    highest: float = LONGEST,
    above: bool = False,
    whole: bool = False,
    error: arguments.ArgumentError = InvalidArgumentError,
) -> float:
    """Check a finite number from `lowest` to `highest`; with `above`, `lowest` itself is refused."""
    kind = "a whole number" if whole else "a number"
    bound = f"above {lowest:.15g}" if above else f"from {lowest:.15g}"
    remedy = f"pass {kind} {bound} to {highest:.15g}"
    return arguments.check_number(
        name, value, remedy=remedy, lowest=lowest, highest=highest, above=above, whole=whole, error=error
    )


def check_text(name: str, value: object, *, error: arguments.ArgumentError = InvalidArgumentError) -> str:
    """Check a string."""
    if isinstance(value, str):
        return value
    msg = f"{name} must be a text, not {arguments.type_name(value)}."
    raise error(msg)


def check_host(value: object) -> str:
    """Check the option `host`, which messages show.

    Raises:
        ConfigurationError: It cannot be the name or address of a host.
    """
    host = check_text("host", value, error=ConfigurationError)
    if host.isprintable() and " " not in host:
        return host
    msg = "host is not the name or address of a host: pass one of this machine, for example 127.0.0.1."
    raise ConfigurationError(msg)


def check_word(name: str, value: object, known: Iterable[str]) -> None:
    """Check a string that is one of a few.

    Raises:
        InvalidArgumentError: The value is something else; the message suggests the right spelling.
    """
    known = tuple(known)
    if not isinstance(value, str) or value not in known:
        msg = f"{name} is {arguments.describe_value(value)}: {suggest(value, known)}"
        raise InvalidArgumentError(msg)


def check_mapping(name: str, value: object, *, remedy: str) -> Mapping[object, object]:
    """Check a mapping."""
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value)
    msg = f"{name} must be a mapping, not {arguments.type_name(value)}: {remedy}."
    raise InvalidArgumentError(msg)


def check_url(name: str, value: object) -> str:
    """Check a URL that webhooks are posted to.

    Veriff accepts https on port 443 only (documented). A receiver under test rarely has that, so any port is accepted.
    """
    if isinstance(value, str) and _FORBIDDEN_IN_URL.search(value) is None:
        try:
            parts = urlsplit(value)
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
                return value
        except ValueError:  # the port or the IPv6 address is invalid
            pass
    msg = f"{name} is not a URL to post to: pass an absolute URL, for example http://127.0.0.1:8000/webhooks."
    raise InvalidArgumentError(msg)


def check_origin(name: str, value: object) -> str:
    """Check the URL of a server, and return it without a slash at the end."""
    if isinstance(value, str) and _FORBIDDEN_IN_URL.search(value) is None:
        try:
            parts = urlsplit(value)
            is_plain = parts.path in {"", "/"} and not parts.query and not parts.fragment and "@" not in parts.netloc
            if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and is_plain:
                return value.rstrip("/")
        except ValueError:  # the port or the IPv6 address is invalid
            pass
    msg = f"{name} must be a URL without path, for example https://veriff.example.com."
    raise ConfigurationError(msg)


def check_header(name: object, value: object) -> None:
    """Check a header.

    Raises:
        InvalidArgumentError: Its name or value is invalid, for example because of a line end.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(value, str) and not _CONTROL.search(value):
        return
    msg = "headers must be a mapping of header names to texts without line ends or other control characters."
    raise InvalidArgumentError(msg)


def check_model(name: str, value: object, kind: type[_Model]) -> _Model:
    """Check a model that the sandbox will send."""
    model = arguments.check_instance(
        name, value, kind, remedy="pass a model of veriff_async", error=InvalidArgumentError
    )
    _check_json(name, model)
    return model


def check_members(name: str, value: object) -> Mapping[str, object]:
    """Check a JSON object with Veriff's members."""
    members = cast(
        "Mapping[str, object]",
        check_mapping(name, value, remedy="pass a model, or a mapping with Veriff's member names"),
    )
    _check_json(name, members)
    return dict(members)


def _check_json(name: str, value: AttrsInstance | Mapping[str, object]) -> None:
    try:
        dump_json(value)
    except InvalidArgumentError:
        pass
    else:
        return
    msg = f"{name} cannot be written as JSON: its values must be texts, finite numbers, lists and mappings."
    raise InvalidArgumentError(msg)


def number(
    *, lowest: float = 0, highest: float = LONGEST, above: bool = False, whole: bool = False
) -> arguments.Validator:
    """Return a validator of a field for `check_number`."""

    def check(instance: object, attribute: Attribute[_T], value: object, /) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        check_number(name, value, lowest=lowest, highest=highest, above=above, whole=whole)

    return check


def flag(instance: object, attribute: Attribute[bool], value: object) -> None:
    """Validate a field that is true or false."""
    arguments.check_flag(f"{type(instance).__name__}.{attribute.name}", value, error=InvalidArgumentError)


def one_of(*known: int) -> arguments.Validator:
    """Return a validator of a field that has one of a few values."""

    def check(instance: object, attribute: Attribute[_T], value: object, /) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value not in known:
            choice = " or ".join(map(str, known))
            msg = f"{type(instance).__name__}.{attribute.name} is {arguments.describe_value(value)}: pass {choice}."
            raise InvalidArgumentError(msg)

    return check
