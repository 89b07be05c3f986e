"""The public class `ChaosProfile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast

from attrs import evolve, field, fields, frozen

from veriff_async._protocol.arguments import check_path, type_name
from veriff_async._protocol.option_names import suggest
from veriff_async.errors import ConfigurationError, InvalidArgumentError
from veriff_async.sandbox._arguments import check_text, number
from veriff_async.sandbox._chaos.reader import parse_toml, read_members, to_members, to_toml
from veriff_async.sandbox._chaos.rules import Outage, RequestChaos, WebhookChaos
from veriff_async.sandbox._chaos.shipped import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attrs import Attribute

    from veriff_async.models.json import JsonObject

__all__ = ("ChaosProfile", "to_profile")

_T = TypeVar("_T")
_Rule = TypeVar("_Rule")

_SUFFIX: Final = ".toml"


def _check_text(_profile: object, attribute: Attribute[_T], value: object) -> None:
    check_text(f"ChaosProfile.{attribute.name}", value)


def _to_tuple(rules: Sequence[_Rule]) -> tuple[_Rule, ...]:
    # Another value is refused by the validator, which names the field.
    return tuple(rules) if isinstance(rules, list) else cast("tuple[_Rule, ...]", rules)


# mypy does not infer the types of a generic converter.
def _to_requests(rules: Sequence[RequestChaos]) -> tuple[RequestChaos, ...]:
    return _to_tuple(rules)


def _to_webhooks(rules: Sequence[WebhookChaos]) -> tuple[WebhookChaos, ...]:
    return _to_tuple(rules)


def _to_outages(rules: Sequence[Outage]) -> tuple[Outage, ...]:
    return _to_tuple(rules)


def _check_rules(_profile: object, attribute: Attribute[_T], value: object) -> None:
    kind = {"requests": RequestChaos, "webhooks": WebhookChaos, "outages": Outage}[attribute.name]
    items = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    for item in items:
        if not isinstance(value, tuple) or not isinstance(item, kind):
            msg = f"ChaosProfile.{attribute.name} must be a tuple of {kind.__name__}, with none of {type_name(item)}."
            raise InvalidArgumentError(msg)


@frozen(kw_only=True)
class ChaosProfile:
    """Which requests fail, how slow responses are, and which webhooks get lost, come twice, late or in another order.

    Profiles are repeatable. A random number depends on the seed, on the endpoint (method and path with its ids
    replaced) and on the count of requests to this endpoint since the start of the profile. Therefore the same order of
    requests to an endpoint gives the same faults, and requests to other endpoints change nothing. For webhooks the kind
    takes the place of the endpoint.

    For a request, the first of `requests` that matches it applies, so write the special rules above the general ones;
    the same holds for a webhook and `webhooks`.

    Args:
        name: Name, for the timeline; that of the file without its suffix if it was loaded from one.
        description: A text for people.
        seed: A whole number up to 1,000,000,000; another one gives other random numbers.
        requests: Faults, latency and rate limits by endpoint.
        webhooks: Loss, duplication, delay and reordering by kind of webhook.
        outages: Windows of time in which requests fail.

    Raises:
        InvalidArgumentError: A value has the wrong type or is out of range.

    Example:
        >>> profile = ChaosProfile(
        ...     seed=7,
        ...     requests=[RequestChaos(path="*/media", faults={Fault.drop(): 0.2}, latency=Delay.constant(0.1))],
        ...     webhooks=[WebhookChaos(duplication=0.5)],
        ... )
    """

    name: str = field(default="", validator=_check_text)
    description: str = field(default="", validator=_check_text)
    seed: int = field(default=0, validator=number(whole=True))
    requests: tuple[RequestChaos, ...] = field(default=(), converter=_to_requests, validator=_check_rules)
    webhooks: tuple[WebhookChaos, ...] = field(default=(), converter=_to_webhooks, validator=_check_rules)
    outages: tuple[Outage, ...] = field(default=(), converter=_to_outages, validator=_check_rules)

    @classmethod
    def shipped(cls) -> tuple[str, ...]:
        """Return the names of the profiles that the library includes."""
        return tuple(SHIPPED)

    @classmethod
    def load(cls, path_or_name: str | Path) -> Self:
        """Load a profile that the library includes by its name, or a file by its path.

        Args:
            path_or_name: ``"mobile"`` for example, or a path: a `pathlib.Path`, or a text that ends with ``.toml`` or
                has a slash. The file is read at once, so load large projects' files before an event loop runs.

        Raises:
            ConfigurationError: The file cannot be read, is not TOML, or has a wrong key or value; or no profile has
                this name. The message suggests the right spelling.
        """
        text = check_path("A chaos profile", path_or_name)
        if not isinstance(path_or_name, Path) and text in SHIPPED:
            return cls._parse(SHIPPED[text].encode(), f"the profile {text}")
        if not isinstance(path_or_name, Path) and not text.endswith(_SUFFIX) and not {"/", "\\"} & set(text):
            remedy = suggest(text, SHIPPED, otherwise=f"pass a path, or one of {', '.join(SHIPPED)}.")
            msg = f"The library includes no chaos profile of this name: {remedy}"
            raise ConfigurationError(msg)
        path = Path(text)
        try:
            data = path.read_bytes()
        except OSError as error:
            problem = error.strerror or type(error).__name__
        else:
            profile = cls._parse(data, path.name)
            return profile if profile.name else evolve(profile, name=path.stem)
        msg = f"The chaos profile {path.name} cannot be read ({problem}): pass a file, or one of {', '.join(SHIPPED)}."
        raise ConfigurationError(msg)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Return the profile that a TOML document describes.

        Raises:
            ConfigurationError: It is not TOML, or has a wrong key or value; the message names the key.
        """
        value: object = text
        if not isinstance(value, str | bytes):
            msg = f"A chaos profile must be text or bytes, not {type_name(value)}: pass the content of a TOML file."
            raise ConfigurationError(msg)
        return cls._parse(value, "the chaos profile")

    @classmethod
    def from_dict(cls, members: Mapping[str, object]) -> Self:
        """Return the profile that the members of a document describe, in JSON for example.

        Raises:
            ConfigurationError: A key or value is wrong; the message names the key.
        """
        return cls._from_members(members, "the chaos profile")

    def to_dict(self) -> JsonObject:
        """Return the members of the document; `from_dict` returns an equal profile."""
        return to_members(self)

    def to_toml(self) -> str:
        """Return a TOML document; `parse` returns an equal profile."""
        return to_toml(to_members(self))

    @classmethod
    def _parse(cls, text: str | bytes, source: str) -> Self:
        return cls._from_members(parse_toml(text, source), source)

    @classmethod
    def _from_members(cls, members: object, source: str) -> Self:
        found = read_members(members, source, top_level=[each.name for each in fields(cls)])
        # The constructor checks the types, which a document does not promise.
        try:
            return cast("Callable[..., Self]", cls)(**found)
        except InvalidArgumentError as error:
            problem = str(error).removeprefix("ChaosProfile.")
        msg = f"In {source}, {problem}"
        raise ConfigurationError(msg)


def to_profile(value: ChaosProfile | str | Path | None) -> ChaosProfile | None:
    """Return the profile that an option names.

    Raises:
        ConfigurationError: The profile cannot be loaded, or the value is of another type.
    """
    if value is None or isinstance(value, ChaosProfile):
        return value
    given: object = value
    if isinstance(given, str | Path):
        return ChaosProfile.load(given)
    msg = f"chaos must be a ChaosProfile, a name or a path, not {type_name(value)}: pass 'mobile', for example."
    raise ConfigurationError(msg)
